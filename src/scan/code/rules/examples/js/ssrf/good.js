const axios = require('axios');
const app = require('express')();
const HOSTS = new Set(['a.example', 'b.example']);
const API = process.env.API_URL;
app.get('/', async (req, res) => {
  await axios.get('https://api.example.com/users/' + req.query.id);
  await axios.get(`${API}/users/${req.query.id}`);
  const url = new URL(req.query.url);
  if (!HOSTS.has(url.hostname)) {
    return res.status(400).end();
  }
  await fetch(url);
  await axios.post('https://api.example.com/', { body: req.body });
  res.json({});
});
