const app = require('express')();
app.get('/', (req, res) => {
  res.cookie('session', 'x', { httpOnly: true, secure: true, sameSite: 'lax' });
  res.cookie('theme', 'dark');
});
