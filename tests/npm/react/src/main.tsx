import { useState, type JSX } from "react";
import { createRoot } from "react-dom/client";
import { TaskProgress, type Task } from "taskapi-progress";

type IsAny<T> = 0 extends 1 & T ? true : false;
const tagIsTyped: IsAny<JSX.IntrinsicElements["task-progress"]> = false;
const taskIsTyped: IsAny<TaskProgress["task"]> = false;

TaskProgress.messages = { queued: "Soon", count: ({ completed, total }) => `${completed} / ${total}` };

function Bar({ taskId }: { taskId: string }) {
  const [task, setTask] = useState<Task | null>(null);
  return (
    <>
      <task-progress
        key={taskId}
        className="bar"
        src={`/api/tasks/${taskId}`}
        label="Learning path"
        cancel
        token={async () => "token"}
        messages={{ failed: "Oh no" }}
        ref={(bar) => bar?.addEventListener("done", ({ detail }) => setTask(detail))}
        ondone={({ detail }) => setTask(detail)}
      >
        <a slot="actions" href="/decks">Open</a>
      </task-progress>
      {/* @ts-expect-error a URL is a string */}
      <task-progress src={5} />
      {/* @ts-expect-error there is no such sentence */}
      <task-progress messages={{ nonsense: "…" }} />
      <output>{task?.result_message}</output>
    </>
  );
}

const bar = document.querySelector("task-progress");
console.log(tagIsTyped, taskIsTyped, bar?.task?.progress);
createRoot(document.getElementById("root")!).render(<Bar taskId="a" />);
