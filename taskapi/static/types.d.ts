/** What the modules of this folder speak of, known to all of them. Types alone: no browser asks for this file. */

type Task = import("./task-progress.js").Task;
type Token = import("./task-progress.js").Token;
type TokenProvider = import("./task-progress.js").TokenProvider;
type Connection = import("./task-progress.js").Connection;
type Span = import("./task-progress.js").Span;
type Forecast = import("./task-progress.js").Forecast;
type Follower = import("./task-progress.js").Follower;
type Follow = typeof import("./task-progress.js").follow;

/** Under its key, `messages` may say it otherwise; what the server said has none. */
type Problem = {
  status: number;
  message: string;
  key?: string;
  url?: string;
  origin?: string;
  page?: string;
};

// What is said.

type Values = Record<string, string | number | null | undefined>;
/** With `{names}` of values, or made of them. */
type Message = string | ((values: Record<string, any>) => string);
type Say = (key: string, values?: Values) => string;
/** By name; docs/front-end.md has them all. */
type Messages = Record<string, Message>;

/** What is missing says nothing. Numbers are written as the language writes them. */
type Fill = (message: Message | undefined, values: Values, language: string) => string;
type Format = (Kind: any, language: string, options?: object) => any;

type Make = <Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  part: string,
  ...children: Node[]
) => HTMLElementTagNameMap[Tag];

/** Shows what a bar has beside, anew with each call. */
type Extra = (element: import("./element.js").TaskProgress, say: Say, parts: Parts) => () => void;
/** At the end of the first line, and below all. */
type Parts = Record<"actions" | "below", HTMLElement>;

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
type Hint = [name: string, hint: any];

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

/** Requests below a URL, until aborted. */
type RequestsTo = (url: string, provider: () => TokenProvider, signal?: AbortSignal) => Requests;

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

/** Meet the tabs that have the same topic, and hear what whoever has the connection says. */
type Meet = (topic: string, signal: AbortSignal, hear: (said: Said) => void) => Tabs;

/** The tabs that follow the same as the same user. */
interface Tabs {
  /** Wait for this tab's turn and connect then; if another tab has it, do something else first. */
  takeTurn(connect: () => Promise<void>, first: () => Promise<void>): Promise<void>;
  /** Tell the other tabs, if this one has the turn. */
  tell(said: Said): void;
}
