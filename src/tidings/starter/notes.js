// A list that is always the server's answer: a notification says only that something has changed,
// and the list is fetched again. One request at a time; what comes meanwhile asks for one more.
const LIST = '/api/notes?sort=-id&page[size]=50'
const HEADERS = { 'Content-Type': 'application/vnd.api+json', Accept: 'application/vnd.api+json' }
const list = document.querySelector('#notes')
const status = document.querySelector('#status')
const problem = document.querySelector('#problem')

let isStale = false
let isLoading = false

async function refresh() {
  isStale = true
  if (isLoading) return
  isLoading = true
  try {
    while (isStale) {
      isStale = false
      show((await ask('GET', LIST)).data)
    }
  } catch (error) {
    problem.textContent = error.message
    setTimeout(refresh, 2000)
  } finally {
    isLoading = false
  }
}

async function ask(method, url, body) {
  const answer = await fetch(url, { method, headers: HEADERS, body: body && JSON.stringify(body) })
  const document = answer.status === 204 ? null : await answer.json()
  if (!answer.ok) throw new Error(document.errors.map((one) => one.detail).join('; '))
  problem.textContent = ''
  return document
}

function write(method, url, body) {
  return ask(method, url, body).catch((error) => { problem.textContent = error.message })
}

function show(notes) {
  list.replaceChildren(...notes.map(({ id, attributes }) => {
    const item = document.createElement('li')
    item.className = attributes.done ? 'done' : ''
    const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: attributes.done })
    box.onchange = () => write('PATCH', `/api/notes/${id}`, { data: { type: 'notes', id, attributes: { done: box.checked } } })
    const text = Object.assign(document.createElement('span'), { textContent: attributes.text })
    const remove = Object.assign(document.createElement('button'), { textContent: 'Delete' })
    remove.onclick = () => write('DELETE', `/api/notes/${id}`)
    item.append(box, text, remove)
    return item
  }))
}

document.querySelector('#new').onsubmit = async (event) => {
  event.preventDefault()
  const form = event.target
  const attributes = { text: form.text.value }
  if (await write('POST', '/api/notes', { data: { type: 'notes', attributes } })) form.reset()
}

const socket = io()
socket.on('connected', () => socket.emit('subscribe', { resource: 'notes' }, refresh))
socket.on('subscription.update', refresh)
socket.on('subscription.resync', refresh)
socket.on('connect', () => { status.textContent = 'live' })
socket.on('disconnect', () => { status.textContent = 'offline' })
refresh()
