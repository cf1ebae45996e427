// The tasks of my teams, live. They are written through the application's own endpoints, which know
// nothing of tidings; the list follows whoever writes.
import { createClient } from '@tidings/client';
import { TidingsProvider, useLive, useStatus } from '@tidings/client/react';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

async function send(method, path, body, token) {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.status === 204 ? null : answer.json();
}

function Login({ onToken }) {
  const [problem, setProblem] = useState('');
  const logIn = (form) =>
    send('POST', '/login', { name: form.get('name'), password: form.get('password') })
      .then(({ access_token: token }) => onToken(token))
      .catch((error) => setProblem(error.message));
  return (
    <form action={logIn}>
      <input name="name" placeholder="Name" required />
      <input name="password" type="password" placeholder="Password" required />
      <button>Log in</button>
      <p role="alert">{problem}</p>
    </form>
  );
}

function Tasks({ token }) {
  const { data, status, error } = useLive('tasks', { filters: { status: 'open' }, sort: ['title'] });
  const [teams, setTeams] = useState([]);
  useEffect(() => void send('GET', '/teams', null, token).then(setTeams), [token]);
  const add = (form) =>
    send('POST', '/tasks', { title: form.get('title'), team_id: Number(form.get('team')) }, token);
  const finish = (id) => send('PATCH', `/tasks/${id}`, { status: 'done' }, token);
  return (
    <>
      <h1>Open tasks <small>{useStatus()}</small></h1>
      <form action={add}>
        <input name="title" placeholder="What is to be done?" required />
        <select name="team">{teams.map(({ id, name }) => <option key={id} value={id}>{name}</option>)}</select>
        <button>Add</button>
      </form>
      <p role="alert">{error?.message}</p>
      <ul>
        {data.map(({ id, attributes }) => (
          <li key={id}><span>{attributes.title}</span> <button onClick={() => finish(id)}>Done</button></li>
        ))}
      </ul>
      {status === 'ready' && !data.length && <p>Nothing to do.</p>}
    </>
  );
}

function App() {
  const [session, setSession] = useState(null);
  if (!session) return <Login onToken={(token) => setSession({ token, client: createClient({ token }) })} />;
  return <TidingsProvider client={session.client}><Tasks token={session.token} /></TidingsProvider>;
}

createRoot(document.querySelector('#root')).render(<App />);
