const { exec, execSync, spawn } = require('child_process');
const util = require('util');
const run = util.promisify(exec);
const app = require('express')();

app.get('/ping', (req, res) => {
  const host = req.query.host;
  exec(`ping -c 1 ${host}`, (err, out) => res.type('text').send(out)); // BAD
});
app.post('/x', async (req, res) => {
  const { name } = req.body;
  await run('ls ' + name); // BAD
  execSync('tar cf ' + req.params.file); // BAD
  spawn('sh', ['-c', 'echo ' + name]); // BAD
  res.end();
});
