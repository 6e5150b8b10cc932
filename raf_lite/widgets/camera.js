// The camera of whoever looks at the page, and a sentence with a way on where there is none. Put before the code of a widget.

const WAY_ON = "or film with a phone and give the file's path to the lesson.";

// Why this page may not use a camera, or "".
function cameraObstacle() {
  if (window.isSecureContext && navigator.mediaDevices) return "";
  return "This page may not use a camera, since its address is neither https nor this machine's own (localhost). Open it so, " +
    WAY_ON;
}

// What keeps a camera that was asked for from running.
function cameraReason(error) {
  const reasons = {
    NotAllowedError: "The camera was not allowed. Allow it in the address bar of this page, then press the button again.",
    NotFoundError: "No camera was found. Connect one, " + WAY_ON,
    NotReadableError: "The camera is in use by another program. Close that one, then press the button again.",
  };
  return reasons[error.name] ?? `The camera does not run (${error.message}). Press the button again, ${WAY_ON}`;
}

// A stream without sound; raises what `cameraReason` puts into words.
function openCamera(width, height) {
  const video = { facingMode: "user", width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  return navigator.mediaDevices.getUserMedia({ audio: false, video });
}
