(() => {
  // Call a function whenever the page changes.
  window.wbcWatch = (changed, attributeFilter) => {
    const start = () => new MutationObserver(changed).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter });
    if (document.body) start(); else document.addEventListener('DOMContentLoaded', start);
  };
  // Gradio names its drop zones otherwise than their visible text.
  window.wbcWatch(() => {
    for (const zone of document.querySelectorAll('button.upload-container[aria-label]')) zone.removeAttribute('aria-label');
  }, ['aria-label']);
  window.wbcSay = (words) => {
    let region = document.getElementById('wbc-say');
    if (!region) {
      region = document.createElement('div');
      region.id = 'wbc-say';
      region.setAttribute('role', 'status');
      region.setAttribute('aria-live', 'polite');
      region.style.cssText = 'position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)';
    }
    // While a dialog is open, everything outside is hidden from screen readers.
    (document.querySelector('dialog[open]') ?? document.body).append(region);
    region.textContent = '';
    setTimeout(() => { region.textContent = words; }, 50);
  };
  window.wbcSave = (file) => {
    const link = document.createElement('a');
    const data = file.base64 ? Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0)) : file.text;
    link.href = URL.createObjectURL(new Blob([data], { type: file.kind }));
    link.download = file.name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
})();
