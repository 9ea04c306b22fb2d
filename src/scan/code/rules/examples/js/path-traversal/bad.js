const fs = require('node:fs');
const path = require('path');
const app = require('express')();

app.get('/f', async (req, res) => {
  const file = path.join(__dirname, 'files', req.query.name);
  fs.readFile(file, 'utf8', (err, data) => res.json({ data })); // BAD
  res.sendFile(path.resolve('public', req.params.name)); // BAD
  await fs.promises.readFile('uploads/' + req.query.x); // BAD
});
