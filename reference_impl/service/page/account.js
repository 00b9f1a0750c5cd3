// The page works without this. With it the button says what is missing, and one press sends one request.
"use strict";
(() => {
  const form = document.getElementById("pay");
  const term = document.getElementById("term");
  const amount = document.getElementById("amount");
  const button = document.getElementById("send");
  const reason = document.getElementById("reason");
  const served = { text: button.textContent, reason: reason.textContent, disabled: button.disabled };
  let sent = false;
  let typed = amount.value !== "";

  const show = (text, disabled, why) => {
    button.textContent = text;
    button.disabled = disabled;
    if (reason.textContent !== why) reason.textContent = why;
  };

  const refresh = () => {
    const chosen = term.selectedOptions[0];
    if (term.disabled || (chosen && chosen.disabled)) show(served.text, true, served.reason);
    else if (!term.value) show(form.dataset.choose, true, "");
    else show(form.dataset.submit, false, `At most ₱${chosen.dataset.most} can be submitted for this term.`);
  };

  amount.addEventListener("input", () => {
    typed = amount.value !== "";
  });

  term.addEventListener("change", () => {
    if (term.value && !typed) amount.value = term.selectedOptions[0].dataset.most;
    refresh();
  });

  form.addEventListener("submit", (event) => {
    if (sent) {
      event.preventDefault();
      return;
    }
    sent = true;
    show("Submitting…", true, "The payment is being submitted.");
  });

  // A page that comes back from the browser's memory is old: its form was sent, and its figures may have changed.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted && sent) window.location.reload();
  });

  // That a payment was submitted is told once: when the page is loaded again it may be long ago.
  const address = new URL(window.location.href);
  if (address.searchParams.has("submitted")) {
    address.searchParams.delete("submitted");
    window.history.replaceState(null, "", address);
  }

  refresh();
})();
