// Records the camera for a few seconds and hands the file to the kernel (anywidget). Nothing else leaves the page.

const PART = 1 << 20; // bytes a message: notebook servers refuse long ones
const TYPES = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];

// Why this page cannot record at all, or "".
function obstacle() {
  if (cameraObstacle() || window.MediaRecorder) return cameraObstacle();
  return `This browser cannot record. Use a newer one, ${WAY_ON}`;
}

export default {
  render({ model, el }) {
    const seconds = model.get("seconds");
    const root = document.createElement("div");
    root.className = "raf-webcam";
    // Keys pressed in here are the button's: notebooks take them for commands.
    root.addEventListener("keydown", (event) => event.stopPropagation());
    const button = document.createElement("button");
    const preview = document.createElement("video");
    const status = document.createElement("p");
    button.type = "button";
    button.textContent = `Record ${seconds} seconds`;
    Object.assign(preview, { muted: true, playsInline: true });
    preview.style.cssText = "display:none;max-width:320px;margin:6px 0";
    preview.setAttribute("aria-label", "What the camera sees");
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");
    const say = (text) => { status.textContent = text; };
    root.append(button, preview, status);
    el.append(root);

    let recorder = null;
    let stream = null;
    let timer = 0;
    const release = () => { // the camera's light goes out
      clearTimeout(timer);
      stream?.getTracks().forEach((track) => track.stop());
      [stream, recorder, preview.srcObject] = [null, null, null];
      preview.style.display = "none";
      button.textContent = `Record ${seconds} seconds`;
      button.disabled = false;
    };

    const send = async (blob) => {
      const bytes = await blob.arrayBuffer();
      const parts = Math.max(1, Math.ceil(bytes.byteLength / PART));
      for (let part = 0; part < parts; part += 1) {
        model.send({ part, parts, size: bytes.byteLength, type: blob.type }, undefined,
          [new DataView(bytes.slice(part * PART, (part + 1) * PART))]);
      }
    };

    const record = async () => {
      button.disabled = true;
      say("Waiting for the camera; your browser may ask for permission.");
      try {
        stream = await openCamera(640, 480);
        preview.srcObject = stream;
        preview.style.display = "block";
        await preview.play();
        const type = TYPES.find((name) => MediaRecorder.isTypeSupported(name));
        recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 4e6 });
        const pieces = [];
        recorder.ondataavailable = (event) => pieces.push(event.data);
        recorder.onstop = () => {
          say("Recorded; handing it to the notebook.");
          release();
          send(new Blob(pieces, { type: type.split(";")[0] }));
        };
        recorder.start();
        timer = setTimeout(() => recorder?.stop(), 1000 * seconds);
        button.textContent = "Stop";
        button.disabled = false;
        button.focus();
        say(`Recording, for ${seconds} seconds at most. Look into the camera; begin with a resting face.`);
      } catch (error) {
        release();
        say(cameraReason(error));
      }
    };

    button.addEventListener("click", () => (recorder ? recorder.stop() : record()));
    model.on("msg:custom", (message) => say(message.text));
    say(obstacle());
    button.disabled = status.textContent !== "";
    return release;
  },
};
