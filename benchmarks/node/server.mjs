// Node's own socket.io: every socket in one room, and one broadcast to it per POST /emit, or ten
// in one turn per POST /burst.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const NOTIFICATION = {
  type: 'resource.created',
  resource: 'posts',
  id: '123',
  action: 'post',
  subscriptionId: 'posts-4f1c9a7e2b',
  meta: { timestamp: '2026-01-15T10:00:00.123Z', cursor: 'k3f9.1042', change: 'enter' },
};

const server = createServer((request, response) => {
  const count = request.url === '/burst' ? 10 : 1;
  for (let number = 0; number < count; number += 1) {
    io.to('posts').emit('subscription.update', NOTIFICATION);
  }
  response.writeHead(204).end();
});
const io = new Server(server, { serveClient: false, perMessageDeflate: false });
io.on('connection', (socket) => socket.join('posts'));
server.listen(Number(process.argv[2]), '127.0.0.1');
