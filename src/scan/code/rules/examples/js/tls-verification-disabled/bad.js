const https = require('https');
const agent = new https.Agent({ rejectUnauthorized: false }); // BAD
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // BAD
