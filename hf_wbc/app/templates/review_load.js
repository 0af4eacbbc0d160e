// The component's events, by the names that Python listens to: 'save' and 'zoom'.
window.wbcReview.mount(element, { save: (data) => trigger('save', data), zoom: (data) => trigger('zoom', data) });
watch('value', () => window.wbcReview.show(element));
