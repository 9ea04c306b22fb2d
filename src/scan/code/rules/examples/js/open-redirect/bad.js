const app = require('express')();
app.get('/', (req, res) => {
  const { next } = req.query;
  res.redirect(next); // BAD
});
app.get('/b', (req, res) => res.redirect(302, req.query.url)); // BAD
