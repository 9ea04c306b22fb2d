const app = require('express')();
app.get('/', (req, res) => {
  const r = eval(req.query.expr); // BAD
  const f = new Function('a', 'return ' + req.body.code); // BAD
  res.json({ r });
});
