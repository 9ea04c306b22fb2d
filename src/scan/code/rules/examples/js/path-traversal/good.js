const fs = require('fs');
const path = require('path');
const app = require('express')();
const BASE = path.resolve('files');

app.get('/f', (req, res) => {
  const full = path.resolve(BASE, req.query.name);
  if (!full.startsWith(BASE + path.sep)) {
    return res.status(403).end();
  }
  fs.readFile(full, () => {});
  fs.readFile(path.join(BASE, path.basename(req.query.other)), () => {});
  res.sendFile('index.html', { root: BASE });
});
