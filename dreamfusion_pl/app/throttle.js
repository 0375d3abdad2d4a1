// gradio's clock of its loading screen goes on after the screen is gone, and draws 60 times a second, which takes a
// fifteenth of a core. It may tick once a second.
(() => {
  const frame = window.requestAnimationFrame.bind(window);
  const isClock = call => call.length === 0 && /^\(\)=>\{[^{}]*performance\.now\(\)[^{}]*\}$/.test(String(call));
  window.requestAnimationFrame = call => isClock(call) ? setTimeout(call, 1000) : frame(call);
})();
