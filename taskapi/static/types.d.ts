/** What the modules of this folder speak of, known to all of them. Types alone: no browser asks for this file. */

/** A snapshot: the API's `UserTaskResponse`. */
interface Task {
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

// Following.

type Token = string | null | undefined;
/** Asked whenever a token is needed. Without one, cookies count. */
type TokenProvider = Token | (() => Token | Promise<Token>);

type Connection = "live" | "polling" | "lost";

/** Why following ended, or what keeps it from beginning; `status` is HTTP's, or 0. */
interface Problem {
  status: number;
  message: string;
  /** Under which name `messages` say it otherwise; what the server said has none. */
  key?: string;
  [value: string]: string | number | undefined;
}

/** Moments, as RFC 3339: half of such tasks, nine in ten, have come so far by then. */
interface Span {
  p50: string;
  p90: string;
}

interface Forecast {
  /** 1 is next to start; null once it has. */
  position: number | null;
  starts_at: Span | null;
  ends_at: Span | null;
  /** Of how many finished tasks this is known. */
  sample: number;
}

/** A task is asked to stop. */
interface Cancelling {
  task_id?: string;
  requested_at: string;
}

interface Follower {
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
type Follow = (url: string, follower: Follower) => () => void;

// What is said.

type Values = Record<string, string | number | null | undefined>;
/** With `{names}` of values, or made of them. */
type Message = string | ((values: Record<string, any>) => string);
type Say = (key: string, values?: Values) => string;
/** By name; README.md has them all. */
type Messages = Record<string, Message>;

/** Shows what a bar has beside, anew with each call. */
type Extra = (element: import("./element.js").TaskProgress, say: Say, place: HTMLElement) => () => void;

// How a channel gets its news.

/** What the server calls the newest snapshot, on streams and in polls; empty where it is not known. */
interface Mark {
  cursor: string;
  etag: string;
}

/** Snapshots that came together. Those of a poll are as old as the moment it was asked at. */
interface News {
  tasks: Task[];
  mark?: Mark;
  asked?: number;
}

/** What a stream says beside snapshots. */
type Hint = ["cancelling", Cancelling] | ["forecast", Forecast];

/** Requests below one address, with the token of whoever follows it, else with cookies. */
interface Requests {
  token(): Promise<Token>;
  /** Whose token comes next; empty without one. */
  user(): Promise<string>;
  /** Fetch; where a token is refused, a new one is tried. Throws what is refused, as an `Error` with `status`. */
  send(path: string, init: RequestInit): Promise<Response>;
  /** Open the stream; with a ticket if there is a token, which an `EventSource` cannot send. */
  stream(cursor: string): Promise<EventSource>;
}

/** Whoever news are brought to. */
interface Receiver {
  readonly requests: Requests;
  /** Aborted at the end. */
  readonly signal: AbortSignal;
  /** Whether these are all of a user's tasks, rather than one. */
  readonly hasMany: boolean;
  readonly mark: Mark;
  /** When something was asked for last, in a time that only counts. */
  moment: number;
  /** Whether the tab is hidden, and nobody wants to know while it is. */
  isPaused(): boolean;
  take(news: News): void;
  hint(name: string, detail: any): void;
  connected(connection: Connection): void;
}

/** What is followed at one URL. */
interface Channel extends Receiver {
  readonly url: string;
  readonly taskId: string;
  /** The URL of all of the user's tasks. */
  readonly all: string;
  mark: Mark;
  /** Whose tasks these are, if they are all of a user's. */
  owner(): number | undefined;
  tabs?: Tabs;
  isWantedHidden(): boolean;
  /** Returns what ends it. */
  join(follower: Follower): () => void;
  fail(problem: { status?: number; message: string; key?: string }): void;
  /** What another tab says. */
  hear(said: Said): void;
}

/** Of a stream: for good reason; by a failure; held back on its way. */
type End = "closed" | "broken" | "silent";

/** What tabs say to one another: whoever has the connection tells its news, whoever is new asks for all of them. */
interface Said {
  isNew?: true;
  connection?: Connection;
  news?: News;
  hints?: Hint[];
}

/** The tabs that follow the same as the same user. */
interface Tabs {
  /** Wait for this tab's turn and connect then; if another tab has it, do something else first. */
  takeTurn(connect: () => Promise<void>, first: () => Promise<void>): Promise<void>;
  /** Tell the other tabs, if this one has the turn. */
  tell(said: Said): void;
}
