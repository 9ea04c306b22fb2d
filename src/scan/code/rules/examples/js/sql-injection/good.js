const express = require('express');
const { Pool } = require('pg');
const router = express.Router();
const pool = new Pool();
const SORTS = ['name', 'age'];
const COLUMNS = { name: 'name', age: 'age' };

function pick(value) {
  return 'constant';
}

function isAllowed(x) {
  return SORTS.includes(x);
}

router.get('/a', async (req, res) => {
  const { id, sort } = req.query;
  await pool.query('SELECT * FROM users WHERE id = $1', [id]);
  await pool.query('SELECT * FROM users WHERE id = ' + parseInt(id, 10));
  await pool.query(`SELECT * FROM users WHERE id = ${Number(id)}`);
  if (!SORTS.includes(sort)) {
    return res.status(400).json({ error: 'bad sort' });
  }
  await pool.query(`SELECT * FROM users ORDER BY ${sort}`);
  res.json({});
});

router.get('/b', async (req, res) => {
  const column = COLUMNS[req.query.sort] || 'name';
  await pool.query(`SELECT * FROM users ORDER BY ${column}`);
  const other = SORTS.includes(req.query.other) ? req.query.other : 'name';
  await pool.query(`SELECT * FROM users ORDER BY ${other}`);
  await pool.query('SELECT ' + pick(req.query.x));
  const third = req.query.third;
  if (isAllowed(third)) {
    await pool.query('SELECT * FROM users ORDER BY ' + third);
  }
  if (!/^[a-z]+$/.test(req.query.fourth)) {
    throw new Error('no');
  }
  await pool.query('SELECT * FROM users ORDER BY ' + req.query.fourth);
  let order;
  switch (req.query.dir) {
    case 'asc':
      order = 'ASC';
      break;
    default:
      order = 'DESC';
  }
  await pool.query('SELECT * FROM users ORDER BY name ' + order);
  res.json({});
});
