const app = require('express')();
app.get('/', (req, res) => {
  const name = req.query.name;
  res.send(`<h1>Hello ${name}</h1>`); // BAD
});
app.get('/b', (req, res) => {
  res.status(404).send('<p>Not found: ' + req.query.q + '</p>'); // BAD
});
app.get('/c', function (req, res) {
  res.send(req.query.message); // BAD
});
