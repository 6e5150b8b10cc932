// An avatar that follows the camera (anywidget). One picture is under way at a time: the next leaves when the avatar's has come
// back, so a slow kernel makes it slower, never late.

const BUSY_AFTER = 5000; // ms without an answer

export default {
  render({ model, el }) {
    const make = (tag, properties, ...children) => {
      const node = Object.assign(document.createElement(tag), properties);
      node.append(...children);
      return node;
    };
    const start = make("button", { type: "button", textContent: "Start the camera" });
    const rest = make("button", { type: "button", textContent: "This is my resting face", disabled: true });
    const turn = make("input", { type: "checkbox", checked: true });
    const video = make("video", { muted: true, playsInline: true });
    video.setAttribute("aria-label", "What the camera sees, mirrored");
    const picture = make("img", { alt: "The avatar, mirrored" });
    for (const node of [video, picture]) {
      node.style.cssText = "height:256px;transform:scaleX(-1);margin:6px 6px 6px 0;display:none";
    }
    const status = make("p", {});
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");
    const rate = make("p", { className: "raf-rate" }); // changes all the time: not for screen readers to announce
    const root = make("div", { className: "raf-mirror" }, start, " ", rest, " ", make("label", {}, turn, " turn with my head"),
      make("div", {}, video, picture), status, rate);
    // Keys pressed in here are the widget's: notebooks take them for commands.
    root.addEventListener("keydown", (event) => event.stopPropagation());
    el.append(root);
    const say = (text) => { if (status.textContent !== text) status.textContent = text; };

    const canvas = document.createElement("canvas");
    let stream = null;
    let run = 0; // answers to an earlier start are dropped
    let resting = false;
    let busy = 0;
    let answers = [];

    const stop = (text) => {
      clearTimeout(busy);
      run += 1;
      stream?.getTracks().forEach((track) => track.stop()); // the camera's light goes out
      [stream, video.srcObject] = [null, null];
      video.style.display = "none";
      start.textContent = "Start the camera";
      [start.disabled, rest.disabled] = [false, true];
      say(text);
    };

    const send = async () => {
      const mine = run;
      const scale = 320 / Math.max(video.videoWidth, video.videoHeight);
      [canvas.width, canvas.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.85); });
      const bytes = await blob.arrayBuffer();
      if (mine !== run) return;
      model.send({ run, rest: resting, turn: turn.checked }, undefined, [new DataView(bytes)]);
      resting = false;
      busy = setTimeout(() => say("The kernel is busy with a cell; the avatar goes on when that has run."), BUSY_AFTER);
    };

    model.on("msg:custom", (message, buffers) => {
      if (message.run !== run || !stream) return;
      clearTimeout(busy);
      if (message.error) {
        stop(`Stopped: ${message.error}`);
        return;
      }
      const old = picture.src;
      picture.src = URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
      if (old) URL.revokeObjectURL(old);
      picture.style.display = "";
      picture.dataset.count = Number(picture.dataset.count ?? 0) + 1;
      rest.disabled = !message.found;
      say(!message.found ? "No face is found: the avatar holds still. Come closer, face the camera, and let light fall on you."
        : message.relative ? "The avatar follows your change from your resting face."
          : "The avatar follows your numbers as they are. Rest your face, and press “This is my resting face”.");
      answers = [...answers.slice(-19), { at: performance.now(), seconds: message.seconds }];
      if (answers.length > 1) {
        const perSecond = (1000 * (answers.length - 1)) / (answers.at(-1).at - answers[0].at);
        const kernel = answers.reduce((sum, answer) => sum + answer.seconds, 0) / answers.length;
        rate.textContent = `${perSecond.toFixed(1)} pictures a second; the kernel takes ${Math.round(1000 * kernel)} ms for each`;
      }
      send();
    });

    start.addEventListener("click", async () => {
      if (stream) {
        stop("Stopped. The camera is off; no picture was kept.");
        return;
      }
      start.disabled = true;
      say("Waiting for the camera; your browser may ask for permission.");
      try {
        stream = await openCamera(640, 480);
        video.srcObject = stream;
        video.style.display = "";
        await video.play();
        start.textContent = "Stop the camera";
        start.disabled = false;
        start.focus();
        run += 1;
        answers = [];
        send();
      } catch (error) {
        stop(cameraReason(error));
      }
    });
    rest.addEventListener("click", () => { resting = true; });
    say(cameraObstacle());
    start.disabled = status.textContent !== "";
    return () => stop("");
  },
};
