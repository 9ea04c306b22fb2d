const app = require('express')();
const escapeHtml = require('escape-html');
app.get('/', (req, res) => {
  res.send(`<h1>Hello ${escapeHtml(req.query.name)}</h1>`);
  res.json({ name: req.query.name });
  res.send({ name: req.query.name });
  res.render('page', { name: req.query.name });
  res.send('<h1>' + encodeURIComponent(req.query.x) + '</h1>');
});
app.get('/plain', (req, res) => {
  res.set('Content-Type', 'text/plain');
  res.send('<' + req.query.x);
});
app.get('/plain2', (req, res) => res.type('text/plain').send(req.query.x));
