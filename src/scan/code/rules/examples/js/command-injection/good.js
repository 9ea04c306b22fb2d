const { exec, execFile, spawn } = require('child_process');
const app = require('express')();
const COMMANDS = { list: 'ls', who: 'whoami' };

app.get('/ping', (req, res) => {
  execFile('ping', ['-c', '1', req.query.host], (err, out) => res.json({ out }));
  spawn('convert', [req.query.file, 'out.png']);
  exec('uptime', () => {});
  const command = COMMANDS[req.query.c];
  if (command) exec(command);
  const m = /x/.exec(req.query.text);
  res.json({ m });
});
