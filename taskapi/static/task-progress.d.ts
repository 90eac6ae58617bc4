/** The types of `task-progress.js`: the element, its tag in JSX and in Vue's templates, and following without it. */

/** A snapshot: the API's `UserTaskResponse`. Moments are RFC 3339. */
export interface Task {
  task_id: string;
  user_id: number;
  learning_path_id: number | null;
  status: "pending" | "queued" | "starting" | "running" | "completed" | "failed" | "timeout";
  stage: string | null;
  progress: number;
  total_items: number | null;
  completed_items: number | null;
  started_at: string | null;
  ended_at: string | null;
  result_message: string | null;
  error_details: string | null;
  id: number;
  created_at: string;
  updated_at: string;
}

export type Token = string | null | undefined;
/** Asked whenever a token is needed. Without one, cookies count. */
export type TokenProvider = Token | (() => Token | Promise<Token>);

export type Connection = "live" | "polling" | "lost";

/** Why following ended, or what keeps it from beginning; `status` is HTTP's, or 0. */
export interface Problem {
  status: number;
  message: string;
}

/** Moments by which half of such tasks, and nine in ten, have come so far. */
export interface Span {
  p50: string;
  p90: string;
}

export interface Forecast {
  /** 1 is next to start; null once it has. */
  position: number | null;
  starts_at: Span | null;
  ends_at: Span | null;
  /** Of how many finished tasks this is known. */
  sample: number;
}

/** A task is asked to stop. */
export interface Cancelling {
  task_id: string;
  requested_at: string;
}

export interface Follower {
  token?: TokenProvider;
  /** Whether to go on in a hidden tab. */
  whileHidden?: () => boolean;
  onsnapshot?: (task: Task) => void;
  oncancelling?: (cancelling: Cancelling) => void;
  onforecast?: (forecast: Forecast) => void;
  onerror?: (problem: Problem) => void;
  onconnection?: (connection: Connection) => void;
}

/**
 * Follow a task (`/api/tasks/TASK_ID`) until it ends, or all of the caller's (`/api/tasks/users/me`) until closed.
 * Whoever follows the same URL on a page shares one connection. Returns what ends it.
 */
export declare const follow: (url: string, follower: Follower) => () => void;

/** In the two or three units that tell most, as the language writes them. */
export declare function duration(ms: number, language?: string): string;
/** Whether a task has ended. */
export declare const isFinal: (task: Task) => boolean;
/** The kind that a made task id begins with, else the id. */
export declare const title: (task: Task) => string;
/** "generating_cards" as "Generating cards". */
export declare const words: (name: string) => string;

/** With `{names}` of values, or made of them. */
export type Message<Values = Record<never, never>> = string | ((values: Values) => string);

/** Every sentence of the element, by name. */
export interface Messages {
  task: Message;
  loading: Message;
  pending: Message;
  queued: Message;
  starting: Message;
  running: Message;
  completed: Message;
  failed: Message;
  timeout: Message;
  cancelling: Message;
  cancelled: Message;
  count: Message<{ completed: number; total: number }>;
  countOnly: Message<{ completed: number }>;
  position: Message<{ position: number }>;
  startsIn: Message<{ duration: string }>;
  endsIn: Message<{ duration: string }>;
  lost: Message;
  signIn: Message;
  refused: Message<{ status: number }>;
  noSource: Message;
  noJson: Message<{ url: string }>;
  blocked: Message<{ origin: string; page: string }>;
  cancel: Message;
  cancelQuestion: Message;
  cancelYes: Message;
  cancelNo: Message;
  cancelTooLate: Message;
  cancelForbidden: Message;
  cancelFailed: Message<{ reason: string }>;
  notify: Message;
  notifyBlocked: Message;
  details: Message;
  copy: Message;
  copied: Message;
}

export interface TaskProgressEventMap {
  progress: CustomEvent<Task>;
  done: CustomEvent<Task>;
  error: CustomEvent<Problem>;
}

export declare class TaskProgress extends HTMLElement {
  static observedAttributes: string[];
  /** What all bars say otherwise. */
  static messages: Partial<Messages>;
  /** The task's URL, without `/status`. */
  src: string;
  label: string;
  /** Without one, cookies count. Setting it tries again what was refused. */
  get token(): TokenProvider;
  set token(token: TokenProvider);
  /** The newest snapshot; without `src`, what to show. */
  get task(): Task | null;
  set task(task: Task | null);
  /** What this bar says otherwise. */
  get messages(): Partial<Messages>;
  set messages(messages: Partial<Messages>);
  /** Since when its task is asked to stop, as RFC 3339. */
  get cancelling(): string | null;
  set cancelling(since: string | null);
  /** What a request to cancel by cookie carries beside, against forgery. */
  headers: Record<string, string>;
  /** Stop following; what is shown stays. */
  close(): void;
  addEventListener<Name extends keyof TaskProgressEventMap>(
    name: Name,
    listener: (this: TaskProgress, event: TaskProgressEventMap[Name]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    name: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** What the tag takes, as attributes or properties. */
export interface TaskProgressProps {
  src?: string;
  label?: string;
  /** A button to cancel. */
  cancel?: boolean | "";
  /** A notification at the end. */
  notify?: boolean | "";
  token?: TokenProvider;
  task?: Task | null;
  messages?: Partial<Messages>;
  headers?: Record<string, string>;
}

/** In JSX, React 19 listens to events by these; React 18 by `ref` and `addEventListener`. */
export interface TaskProgressListeners {
  onprogress?: (event: CustomEvent<Task>) => void;
  ondone?: (event: CustomEvent<Task>) => void;
  onerror?: (event: CustomEvent<Problem>) => void;
}

/** For Vue's templates: `@done` and so on. */
export interface TaskProgressVueListeners {
  onProgress?: (event: CustomEvent<Task>) => void;
  onDone?: (event: CustomEvent<Task>) => void;
  onError?: (event: CustomEvent<Problem>) => void;
}

type TaskProgressAttributes = TaskProgressProps & TaskProgressListeners;

declare global {
  interface HTMLElementTagNameMap {
    "task-progress": TaskProgress;
  }
}

// Whichever of these is not installed is left out.
// @ts-ignore
declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      // @ts-ignore
      "task-progress": DetailedHTMLProps<HTMLAttributes<TaskProgress>, TaskProgress> & TaskProgressAttributes;
    }
  }
}
// @ts-ignore
declare module "vue" {
  interface GlobalComponents {
    "task-progress": new () => { $props: TaskProgressProps & TaskProgressVueListeners };
  }
}
