/** What the modules of this folder speak of. Types alone: no browser asks for this file. */

/** A snapshot: the API's `UserTaskResponse`. */
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

// Following.

export type Token = string | null | undefined;
/** Asked whenever a token is needed. Without one, cookies count. */
export type TokenProvider = Token | (() => Token | Promise<Token>);

export type Connection = "live" | "polling" | "lost";

/** Why following ended; `status` is HTTP's, or 0. */
export interface Problem {
  status: number;
  message: string;
}

export interface Follower {
  token?: TokenProvider;
  onsnapshot?: (task: Task) => void;
  onerror?: (problem: Problem) => void;
  onconnection?: (connection: Connection) => void;
}

/**
 * Follow a task (`/api/tasks/TASK_ID`) until it ends, or all of the caller's (`/api/tasks/users/me`) until closed.
 * Whoever follows the same URL on a page shares one connection. Returns what ends it.
 */
export type Follow = (url: string, follower: Follower) => () => void;

// How a channel gets its news.

/** What the server calls the newest snapshot, on streams and in polls; empty where it is not known. */
export interface Mark {
  cursor: string;
  etag: string;
}

/** Snapshots that came together. Those of a poll are as old as the moment it was asked at. */
export interface News {
  tasks: Task[];
  mark: Mark;
  asked?: number;
}

/** Requests below one address, with the token of whoever follows it, else with cookies. */
export interface Requests {
  token(): Promise<Token>;
  /** Whose token comes next; empty without one. */
  user(): Promise<string>;
  /** Fetch; where a token is refused, a new one is tried. Throws what is refused, as an `Error` with `status`. */
  send(path: string, init: RequestInit): Promise<Response>;
  /** Open the stream; with a ticket if there is a token, which an `EventSource` cannot send. */
  stream(cursor: string): Promise<EventSource>;
}

/** Whoever news are brought to: a channel. */
export interface Receiver {
  readonly requests: Requests;
  /** Aborted at the end. */
  readonly signal: AbortSignal;
  /** Whether these are all of a user's tasks, rather than one. */
  readonly hasMany: boolean;
  readonly mark: Mark;
  /** When something was asked for last, in a time that only counts. */
  moment: number;
  take(news: News): void;
  connected(connection: Connection): void;
}

/** Of a stream: for good reason; by a failure; held back on its way. */
export type End = "closed" | "broken" | "silent";

/** What tabs say to one another: whoever has the connection tells its news, whoever is new asks for all of them. */
export interface Said {
  isNew?: true;
  connection?: Connection;
  news?: News;
}

/** The tabs that follow the same as the same user. */
export interface Tabs {
  /** Wait for this tab's turn and connect then; if another tab has it, do something else first. */
  takeTurn(connect: () => Promise<void>, first: () => Promise<void>): Promise<void>;
  /** Tell the other tabs, if this one has the turn. */
  tell(said: Said): void;
}
