const app = require('express')();
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
function clean(value) {
  return String(value)
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;');
}
function mapped(value) {
  return String(value).replace(/[&<>"]/g, (c) => ENTITIES[c]);
}
app.get('/a', (req, res) => {
  const heading = clean(req.query.heading);
  res.send(`<h1>${heading}</h1>`);
});
app.get('/b', (req, res) => {
  res.send(`<h1>${mapped(req.query.heading)}</h1>`);
});
app.get('/c', (req, res) => {
  res.send('<h1>' + req.query.heading.replaceAll('<', '&lt;') + '</h1>');
});
