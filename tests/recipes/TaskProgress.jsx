// A live bar in React 18 or 19, with any bundler: import TaskProgress from "./TaskProgress.jsx";
//   <TaskProgress taskId={id} token={getToken} label="My task" onDone={(task) => console.log(task.status)} />
// token: the user's bearer token, or a function that returns one (or a promise). api: the server's origin, if that
// is not the page's (then name the page's in TASKAPI_CORS_ORIGINS).
import { useEffect, useLayoutEffect, useRef } from "react";

export default function TaskProgress({ taskId, token, label, onDone, api = "" }) {
  const bar = useRef(null);

  useEffect(() => {
    // The server's own module, asked for at run time: it fits the server, and is not needed to render elsewhere.
    import(/* webpackIgnore: true */ /* @vite-ignore */ `${api}/static/task-progress.js`).catch(console.error);
  }, [api]);

  useLayoutEffect(() => {
    bar.current.token = token; // a property: attributes are text, and React 18 knows nothing else
  }, [token]);

  useLayoutEffect(() => {
    const element = bar.current;
    const done = ({ detail }) => onDone?.(detail);
    element.addEventListener("done", done);
    return () => element.removeEventListener("done", done);
  }, [onDone]);

  return <task-progress ref={bar} label={label} src={`${api}/api/tasks/${encodeURIComponent(taskId)}`} />;
}
