"""A walk through the page in a browser without a network, from the empty page to a downloaded object."""

import re
import shutil
import time

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-background-networking"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SECONDS = 60.0  # for a fit
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 400, "height": 800}
OF_BABYLON = "postProcessManager"  # gradio's Model3D draws once more after another object took the place
EVIL = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, small_page):
    """Opens the page as a new visitor; at the end nothing came from outside, and no script failed."""
    contexts, outside, errors = [], [], []

    def come(size=DESK):
        contexts.append(browser.new_context(viewport=size, accept_downloads=True))
        page = contexts[-1].new_page()
        page.on("request", lambda request: outside.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(small_page.address)
        page.wait_for_selector("#df-make")
        page.wait_for_selector(".df-card")
        return page

    yield come
    for context in contexts:
        context.close()
    own = (small_page.address, "data:", "blob:")
    assert [url for url in outside if not url.startswith(own)] == []
    assert [error for error in errors if OF_BABYLON not in error] == []


def says(page, text, place="#df-status", seconds=SECONDS):
    sync_api.expect(page.locator(place)).to_contain_text(text, timeout=1000.0 * seconds)


def make(page, prompt, seed=0):
    page.fill("#df-seed input", str(seed))
    page.fill("#df-prompt textarea", prompt)
    page.wait_for_timeout(500.0)  # what is said of the prompt appears above the button, which may move
    page.click("#df-make")


def test_the_clock_of_gradios_loading_screen_does_not_draw_all_the_time(browser, small_page):
    page = browser.new_page()
    page.add_init_script("""
        const frame = window.requestAnimationFrame.bind(window);
        window.clock_frames = 0;
        window.requestAnimationFrame = call => {
          if (/statustracker/i.test(new Error().stack)) window.clock_frames += 1;
          return frame(call);
        };
    """)
    page.goto(small_page.address)
    page.wait_for_selector(".df-card")
    page.wait_for_timeout(3000.0)
    before = page.evaluate("window.clock_frames")
    page.wait_for_timeout(2000.0)
    drawn = page.evaluate("window.clock_frames") - before
    page.close()
    assert drawn < 20  # by itself it draws 60 a second, which is 7 % of a core


def test_from_the_empty_page_to_a_downloaded_glb(visit):
    page = visit()
    make(page, "a red ball", 1)
    says(page, "a red ball")
    says(page, "finished")
    page.wait_for_selector("#df-pictures img.df-turning")
    page.wait_for_selector("#df-model3d canvas")
    assert page.evaluate("document.querySelector('.df-turning').naturalWidth") > 0
    with page.expect_download() as got:
        page.click("button[data-form=glb]")
    assert got.value.suggested_filename == "a-red-ball-seed_1.glb"
    assert got.value.path().read_bytes()[:4] == b"glTF"
    with page.context.expect_page() as opened:
        page.click("text=open its page")
    opened.value.wait_for_load_state()
    assert "a red ball" in opened.value.content()


def test_with_the_keyboard_alone(visit):
    page = visit()
    page.wait_for_timeout(500)
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA", "the prompt has the focus"
    page.keyboard.type("a red cube")
    page.keyboard.press("Enter")
    says(page, "a red cube")
    says(page, "finished")
    page.wait_for_selector("button[data-form=glb]")
    for _ in range(60):
        if page.evaluate("document.activeElement.dataset.form") == "glb":
            break
        page.keyboard.press("Tab")
    with page.expect_download() as got:
        page.keyboard.press("Enter")
    assert got.value.path().read_bytes()[:4] == b"glTF"


def test_stop_and_resume_and_a_queue(visit):
    page = visit()
    page.fill("#df-count input", "2")
    make(page, "a red cone", 3)
    says(page, "2 variations are queued", "#df-told")
    page.wait_for_selector("#df-stop:not([disabled])")
    page.click("#df-stop")
    says(page, "stopped")
    page.click(".df-card:has-text('seed 4')")
    says(page, "seed 4")
    page.click("#df-stop:not([disabled])")
    says(page, "stopped")
    page.click(".df-card:has-text('a red cone'):has-text('seed 3')")
    says(page, "stopped")
    page.click("#df-resume")
    says(page, "finished")


def test_two_visitors_select_for_themselves(visit):
    first, second = visit(), visit()
    make(first, "a red ring", 5)
    says(first, "a red ring")
    second.wait_for_selector(".df-card:has-text('a red ring')")
    second.click(".df-card:has-text('strange')")
    says(second, "strange")
    first.click("#df-stop")
    says(first, "stopped")
    assert "a red ring" in first.inner_text("#df-status") and "strange" in second.inner_text("#df-status")


@pytest.mark.parametrize(
    ("text", "said"),
    [("x" * 10_000, "500 are the most"), ("", "Describe an object"), ("🪑", "no word")],
)
def test_what_is_refused_is_said_and_not_queued(visit, text, said):
    page = visit()
    count = page.locator(".df-card").count()
    make(page, text, 6)
    says(page, said, "#df-told")
    assert page.locator(".df-card").count() == count


def test_hostile_texts_stay_texts(visit, small_page):
    page = visit()
    make(page, EVIL, 7)
    says(page, EVIL)
    page.click("#df-stop")
    make(page, "--help", 7)
    says(page, "--help")
    says(page, "finished")  # the prompt "--help" is drawn, and no option
    page.click(".df-card:has-text('strange')")
    says(page, "a <b>strange</b> ball")
    assert page.title() == "DreamFusion"
    assert page.locator("#df-all b, #df-all img[src=x], #df-status b").count() == 0


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_is_cut_off(visit, size):
    page = visit(size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    heights = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent).map(b => b.offsetHeight)"
    )
    assert len(heights) > 5 and min(heights) >= 24, "a button is too small for a finger"


def test_it_opens_at_once(visit):
    took = []
    for _ in range(4):  # the best counts: other tests run at the same time
        begin = time.monotonic()
        page = visit()
        took.append(time.monotonic() - begin)
        assert re.match("DreamFusion", page.title())
    assert min(took) < 3.0
