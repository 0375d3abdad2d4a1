"""The page: a form, the selected run, and a gallery of all runs, made of gradio's components."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from dreamfusion_pl.app import choices, parts
from dreamfusion_pl.app.actions import Actions
from dreamfusion_pl.app.desk import Desk

REFRESH_SECONDS = 3.0
IDLE_SECONDS = 0.05  # between two looks of gradio's queue; its own 0.001 takes 5 % of a core for nothing
CAMERA_METRES = 1.9  # from the object, which is about a metre tall
STYLE, SCRIPT = (Path(__file__).with_name(name) for name in ("style.css", "throttle.js"))
FONTS = ("system-ui", "sans-serif")  # the machine's own: nothing comes from the network
MONO = ("ui-monospace", "monospace")
_SAVE = "() => { const link = document.getElementById('df-ready'); if (link) link.click(); }"
_TYPE = "() => { const box = document.querySelector('#df-prompt textarea'); if (box) box.focus(); }"
_LOOK = """() => { if (!document.querySelector('#df-told .df-bad'))
  document.getElementById('df-status').scrollIntoView({block: 'nearest'}); }"""


class Form(NamedTuple):
    """What a visitor fills in."""

    prompt: gr.Textbox
    quality: gr.Radio
    seed: gr.Number
    variations: gr.Number
    prior: gr.Dropdown
    model: gr.Textbox
    hint: gr.HTML
    make: gr.Button
    said: gr.HTML


class View(NamedTuple):
    """What shows the selected run; ``actions.changes`` has the same order."""

    status: gr.HTML
    pictures: gr.HTML
    log: gr.Textbox
    buttons: gr.Row
    stop: gr.Button
    resume: gr.Button
    model: gr.Model3D
    results: gr.HTML


def theme() -> gr.themes.Base:
    """The page's colours and fonts."""
    return gr.themes.Default(font=FONTS, font_mono=MONO, primary_hue="indigo", secondary_hue="indigo")


def build(desk: Desk) -> gr.Blocks:
    """Build the page of a desk."""
    with gr.Blocks(title="DreamFusion", analytics_enabled=False, fill_width=True) as page:
        selected, shown = gr.State(""), gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300):
                form = _form(desk)
            with gr.Column(scale=6, min_width=300):
                view, said = _view()
        gr.HTML('<h2 class="df-title">All objects</h2>')
        gallery = gr.HTML(elem_id="df-all", js_on_load=_clicks("key"))
        outputs = [*view, gallery, shown]
        actions = Actions(desk)
        _bind_form(form, actions)
        filled = [form.prompt, form.quality, form.seed, form.variations, form.prior, form.model]
        gr.on(
            [form.make.click, form.prompt.submit],
            actions.make,
            [*filled, selected, shown],
            [form.said, form.hint, said, selected, *outputs],
            show_progress="hidden",
        ).then(None, js=_LOOK)
        gallery.click(actions.choose, [shown], [said, selected, *outputs], show_progress="hidden").then(
            None, js=_LOOK
        )
        view.stop.click(actions.stop, [selected, shown], [said, *outputs], show_progress="hidden")
        view.resume.click(actions.resume, [selected, shown], [said, *outputs], show_progress="hidden")
        made = view.results.click(actions.download, [selected], [said], show_progress="hidden")
        made.then(None, js=_SAVE)
        page.load(actions.begin, None, [selected, *outputs], show_progress="hidden")
        ticks = gr.Timer(REFRESH_SECONDS)
        ticks.tick(actions.refresh, [selected, shown], outputs, show_progress="hidden", queue=False)
    page._queue.sleep_when_free = IDLE_SECONDS
    page._queue.progress_update_sleep_when_free = 1.0  # it has no progress bar
    return page


def _form(desk: Desk) -> Form:
    gr.HTML("<h1 class='df-title'>Make a 3D object from words</h1>")
    prompt = gr.Textbox(
        label="Describe an object",
        placeholder="a red chair",
        lines=1,
        max_lines=3,
        elem_id="df-prompt",
        autofocus=True,
    )
    hint = gr.HTML(desk.hint("", choices.OWN), elem_id="df-hint", js_on_load=_clicks("text"))
    quality = gr.Radio([*choices.QUALITIES], value="default", label="Quality", elem_id="df-quality")
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=110, elem_id="df-seed")
        count = gr.Number(
            1,
            label="Variations",
            precision=0,
            minimum=1,
            maximum=choices.MOST_SEEDS,
            min_width=110,
            elem_id="df-count",
        )
    with gr.Accordion("Prior", open=False):
        name = "the embedded one" if desk.setup.is_embedded else "that of the command line"
        offered = [(name, choices.OWN), *((title, overlay) for overlay, title in choices.PRIORS.items())]
        prior = gr.Dropdown(
            offered,
            value=choices.OWN,
            label="The model that judges the pictures",
            info="Others draw any prompt, and need a GPU and their weights on this machine.",
            elem_id="df-prior",
        )
        model = gr.Textbox(
            label="Its name on the hub, or a folder or file here",
            placeholder="left empty: the usual one",
            visible=False,
            elem_id="df-model",
        )
    make = gr.Button("Make", variant="primary", elem_id="df-make")
    return Form(prompt, quality, seed, count, prior, model, hint, make, gr.HTML(elem_id="df-told"))


def _view() -> tuple[View, gr.HTML]:
    status = gr.HTML(parts.WELCOME, elem_id="df-status")
    with gr.Row(visible=False) as buttons:
        stop = gr.Button("Stop", interactive=False, size="sm", min_width=80, elem_id="df-stop")
        resume = gr.Button("Resume", interactive=False, size="sm", min_width=80, elem_id="df-resume")
    said = gr.HTML(elem_id="df-said")
    results = gr.HTML(elem_id="df-results", js_on_load=_clicks("form"))
    # Not hidden by gradio, in which a Model3D that was hidden once stays empty: style.css does it.
    with gr.Column(elem_id="df-object"):
        model = gr.Model3D(
            show_label=False,
            interactive=False,
            height=340,
            camera_position=(None, 75.0, CAMERA_METRES),
            elem_id="df-model3d",
        )
    pictures = gr.HTML(elem_id="df-pictures")
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(show_label=False, lines=10, max_lines=14, interactive=False, elem_id="df-log")
    return View(status, pictures, log, buttons, stop, resume, model, results), said


def _bind_form(form: Form, actions: Actions) -> None:
    """While the prompt is typed, what is said below it follows."""
    typed: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    form.prompt.change(actions.type, [form.prompt, form.prior], [form.hint], **typed)
    form.hint.click(actions.complete, None, [form.prompt], show_progress="hidden").then(None, js=_TYPE)
    form.prior.change(
        actions.choose_prior,
        [form.prompt, form.prior],
        [form.hint, form.quality, form.model],
        show_progress="hidden",
    )


def _clicks(name: str) -> str:
    """Script that tells the server which button of an HTML was clicked, by its ``data-`` attribute."""
    return f"""
element.addEventListener('click', event => {{
  const button = event.target.closest('button[data-{name}]');
  if (button) trigger('click', {{{name}: button.dataset.{name}}});
}});
"""
