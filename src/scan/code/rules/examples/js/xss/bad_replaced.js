const app = require('express')();
function first(value) {
  return String(value).replace(/</, '&lt;').replace('<', '&lt;');
}
function others(value) {
  return String(value).replace(/[^<]/g, '_').replace(/"/g, '&quot;').replace(/<script>/g, '');
}
app.get('/a', (req, res) => {
  res.send(`<h1>${first(req.query.heading)}</h1>`); // BAD
});
app.get('/b', (req, res) => {
  res.send(`<h1>${others(req.query.heading)}</h1>`); // BAD
});
app.get('/c', (req, res) => {
  res.send(`<h1>${req.query.heading.replace(/</g, '<<')}</h1>`); // BAD
});
