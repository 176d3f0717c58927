// When an answer comes: on a phone it lies below the form, so go there; else stay in the form, where the next
// question is typed, though the page in the frame takes the focus as it opens.
watch("value", () => {
  const before = document.activeElement;
  if (element.getBoundingClientRect().top > innerHeight / 2) element.scrollIntoView();
  else {
    const frame = element.querySelector("iframe");
    frame?.addEventListener("load", () => before.focus({ preventScroll: true }), { once: true });
  }
});
