// The echo server of Node's ws: node_echo.js PORT [compression | CERT KEY]
const fs = require('fs');
const https = require('https');
const { WebSocketServer } = require('ws');

const [port, first, key] = process.argv.slice(2);
const perMessageDeflate = first === 'compression';
let server;
if (key) {
  const web = https.createServer({ cert: fs.readFileSync(first), key: fs.readFileSync(key) });
  server = new WebSocketServer({ server: web, perMessageDeflate });
  web.listen(Number(port), '127.0.0.1');
} else {
  server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), perMessageDeflate });
}
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
