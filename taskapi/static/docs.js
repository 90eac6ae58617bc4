// Swagger UI over the server's own description. A file, since the page's policy runs no inline script.
/** @type {any} */ (globalThis).SwaggerUIBundle({
  url: /** @type {HTMLElement} */ (document.currentScript).dataset.url,
  dom_id: "#reference",
  deepLinking: true,
  validatorUrl: null, // nothing is sent to anybody else
});
