const axios = require('axios');
const app = require('express')();
app.get('/', async (req, res) => {
  const r = await axios.get(req.query.url); // BAD
  const s = await fetch(`https://${req.query.host}/api`); // BAD
  res.json(r.data);
});
