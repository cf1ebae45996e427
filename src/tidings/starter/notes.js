// The list follows the server. A notification says only that a note has changed; the client
// (tidings.min.js, which is @tidings/client) fetches it, and missed nothing when it was offline.
const client = tidings.createClient();
const notes = client.live('notes', { sort: ['-created_at'] });

const list = document.querySelector('#notes');
const problem = document.querySelector('#problem');

function show() {
  const { data, error } = notes.getSnapshot();
  problem.textContent = error?.message ?? '';
  list.replaceChildren(...data.map(itemOf));
}

function itemOf({ id, attributes }) {
  const item = document.createElement('li');
  item.className = attributes.done ? 'done' : '';
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = attributes.done;
  box.ariaLabel = `${attributes.text} is done`;
  box.onchange = () => write(client.update('notes', id, { done: box.checked }));
  const text = document.createElement('span');
  text.textContent = attributes.text;
  const button = document.createElement('button');
  button.textContent = 'Delete';
  button.onclick = () => write(client.remove('notes', id));
  item.append(box, text, button);
  return item;
}

// What was written is in the list when this is done; what was refused is said.
async function write(writing) {
  try {
    await writing;
    return true;
  } catch (error) {
    problem.textContent = error.message;
    return false;
  }
}

document.querySelector('#new').onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  if (await write(client.create('notes', { text: form.text.value }))) form.reset();
};

client.onStatus((status) => {
  document.querySelector('#status').textContent = status;
});
notes.subscribe(show);
