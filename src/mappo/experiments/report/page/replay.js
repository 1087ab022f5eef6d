// Replays of a report: pictures on a canvas, to play or to step through. A picture holds the pixels that changed.
function load(frame) {
  return new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = `data:image/png;base64,${frame.png}`;
  });
}

async function showReplay(figure, replay) {
  const frames = replay.frames;
  const canvas = d3.select(figure).append("canvas").attr("width", replay.width).attr("height", replay.height)
    .attr("role", "img").attr("aria-label", "picture of the replay").node();
  const controls = d3.select(figure).append("div").attr("class", "controls");
  const button = (text, label, act) =>
    controls.append("button").attr("type", "button").attr("aria-label", label).text(text).on("click", act);
  button("\u2039 Back", "a picture back", () => move(-1));
  const play = button("Play", "play", () => {
    if (timer !== null) { stop(); return; }
    play.text("Pause").attr("aria-label", "pause");
    advance();
  });
  button("Next \u203a", "next picture", () => move(1));
  const slider = controls.append("input").attr("type", "range").attr("min", 0).attr("max", frames.length - 1)
    .attr("value", 0).attr("aria-label", "picture").on("input", () => { stop(); show(Number(slider.node().value)); });
  const output = controls.append("output");
  const images = await Promise.all(frames.map(load));
  const context = canvas.getContext("2d");
  let place = -1;
  let timer = null;

  function show(target) {
    // Pictures build on their predecessors: going back begins at the first.
    for (let k = target > place ? place + 1 : 0; k <= target; k++) {
      if (images[k]) context.drawImage(images[k], frames[k].x, frames[k].y);
    }
    place = target;
    slider.node().value = target;
    const text = frames[target].text || `picture ${target + 1} of ${frames.length}`;
    output.text(text);
    canvas.setAttribute("aria-label", `replay, ${text}`);
  }

  function stop() {
    window.clearTimeout(timer);
    timer = null;
    play.text("Play").attr("aria-label", "play");
  }

  function advance() {
    timer = window.setTimeout(() => { show((place + 1) % frames.length); advance(); }, frames[place].ms);
  }

  function move(way) {
    stop();
    show((place + way + frames.length) % frames.length);
  }

  show(0);
}

document.querySelectorAll("[data-replay]").forEach((figure) => showReplay(figure, data.replays[figure.dataset.replay]));
