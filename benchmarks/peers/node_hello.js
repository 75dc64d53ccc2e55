// A hello with Node's http: node_hello.js PORT
const http = require('http');

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.end('Hello from Silly!');
});
server.listen(Number(process.argv[2]), '127.0.0.1');
