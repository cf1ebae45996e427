// The form for a post, new or old; what the server refuses is shown beside the field it is about.

import { readable, showProblem, stamped } from '/static/view.js';

let lastId = 0;

// `save(values)` sends the post; the form calls `close` when that is done or given up.
export function openEditor(holder, { values = {}, withWorkspace = false, save, close }) {
  const form = stamped('form');
  for (const field of form.querySelectorAll('[data-field]')) addProblem(field);
  form.querySelector('[data-field="workspace_id"]').hidden = !withWorkspace;
  for (const [name, value] of Object.entries(values)) {
    if (form.elements[name]) form.elements[name].value = value ?? '';
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    submit(form, save, close);
  });
  form.querySelector('[data-action="cancel"]').addEventListener('click', close);
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
  });
  holder.append(form);
  form.elements.title.focus();
  return form;
}

async function submit(form, save, close) {
  const button = form.querySelector('[type="submit"]');
  button.disabled = true;
  clearProblems(form);
  try {
    const { title, content, status, workspace_id: workspace } = form.elements;
    await save({
      title: title.value.trim(),
      content: content.value.trim() || null,
      status: status.value,
      workspace_id: workspace.value,
    });
    close();
  } catch (error) {
    showErrors(form, error);
  } finally {
    button.disabled = false;
  }
}

function addProblem(field) {
  const problem = document.createElement('small');
  problem.className = 'problem';
  problem.id = `problem-${++lastId}`;
  problem.hidden = true;
  field.append(problem);
  control(field).setAttribute('aria-describedby', problem.id);
}

const control = (field) => field.querySelector('input, textarea, select');

function clearProblems(form) {
  for (const problem of form.querySelectorAll('.problem')) showProblem(problem, null);
  for (const field of form.querySelectorAll('[aria-invalid]')) field.removeAttribute('aria-invalid');
}

function showErrors(form, error) {
  const rest = [];
  const invalid = [];
  for (const entry of error.errors?.length ? error.errors : [{ detail: error.message }]) {
    const field = fieldOf(form, entry.source?.pointer);
    if (!field) {
      rest.push(readable(entry));
      continue;
    }
    showProblem(field.querySelector('.problem'), withoutName(readable(entry), field.dataset.field));
    control(field).setAttribute('aria-invalid', 'true');
    invalid.push(control(field));
  }
  showProblem(form.querySelector(':scope > .problem'), rest.join(' ') || null);
  invalid[0]?.focus();
}

// "title: must have ..." beside the title is "Must have ...".
function withoutName(text, name) {
  const own = text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
  return own[0].toUpperCase() + own.slice(1);
}

function fieldOf(form, pointer = '') {
  const [, name] = /^\/data\/attributes\/([^/]+)/.exec(pointer) ?? [];
  return [...form.querySelectorAll('[data-field]')].find(({ dataset, hidden }) => dataset.field === name && !hidden);
}
