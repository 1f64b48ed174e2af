// The page's one WebSocket. Keeps the subscriptions that are wanted, resumes them after a loss, and hands on what came
// in batches, so that thousands of changes a second cost one round of drawing each.
import type { StreamFrame, StreamRequest } from "../api/shapes";
import { token } from "../api/token";

export type Wanted = { filter: string; fields?: readonly string[]; rateHz?: number };
export type Listener = {
  opened: () => void;
  closed: () => void;
  heard: (at: number) => void;
  came: (frames: StreamFrame[], fresh: string[]) => void;
  ended: (id: string) => void;
  keyNeeded: (refused: boolean) => void;
};

/** What came within this time is one change of the store and one round of drawing: an eye sees no faster figures. */
const FLUSH_MS = 100;
const HIDDEN_FLUSH_MS = 1000;
/** The node tells `live` every few seconds; after this long in silence it is asked, and then given up. */
const SILENCE_MS = 12_000;
const GIVE_UP_MS = 18_000;
/** A subscription that nobody looks at stays for this long, so that going back and forth costs nothing. */
const LINGER_MS = 20_000;

type Held = Wanted & { count: number; resume: string | null; open: boolean; since: number; leaving: number | null };

export class LiveSocket {
  private socket: WebSocket | null = null;
  private readonly held = new Map<string, Held>();
  private waiting: StreamFrame[] = [];
  private fresh = new Set<string>();
  private flushing: number | null = null;
  private flushedAt = 0;
  /** Subscriptions whose first twins are coming; they are shown as soon as they are whole. */
  private readonly filling = new Set<string>();
  private attempts = 0;
  private heardAt = 0;
  private heardTold = 0;
  private retry: number | null = null;
  private stopped = true;

  constructor(private readonly listener: Listener) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    window.addEventListener("online", this.now);
    document.addEventListener("visibilitychange", this.now);
    window.setInterval(this.watch, 3_000);
    this.connect();
  }

  /** Connects anew, e.g. with another key. */
  restart(): void {
    this.attempts = 0;
    this.socket?.close();
    this.socket = null;
    this.connect();
  }

  want(id: string, wanted: Wanted): void {
    const known = this.held.get(id);
    if (known) {
      known.count += 1;
      if (known.leaving !== null) window.clearTimeout(known.leaving);
      known.leaving = null;
      return;
    }
    const held: Held = { ...wanted, count: 1, resume: null, open: false, since: Date.now(), leaving: null };
    this.held.set(id, held);
    this.subscribe(id, held);
  }

  release(id: string): void {
    const known = this.held.get(id);
    if (!known) return;
    known.count -= 1;
    if (known.count > 0) return;
    known.leaving = window.setTimeout(() => {
      this.held.delete(id);
      this.filling.delete(id);
      if (known.open) this.say({ type: "unsubscribe", id });
      this.listener.ended(id);
    }, LINGER_MS);
  }

  private readonly now = (): void => {
    if (document.visibilityState === "hidden" || this.retry === null) return;
    window.clearTimeout(this.retry);
    this.retry = null;
    this.connect();
  };

  private readonly watch = (): void => {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const silent = Date.now() - this.heardAt;
    if (silent > GIVE_UP_MS) {
      // A dead network may never say so; `close` alone could wait for minutes.
      const dead = this.socket;
      this.socket = null;
      dead.onclose = null;
      dead.close();
      this.lost(true);
    } else if (silent > SILENCE_MS) this.say({ type: "ping" });
  };

  private say(frame: StreamRequest): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private subscribe(id: string, held: Held): void {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    held.open = true;
    if (held.resume === null) this.fresh.add(id);
    this.filling.add(id);
    this.say({
      type: "subscribe",
      id,
      filter: held.filter,
      max_rate_hz: held.rateHz ?? 4,
      ...(held.fields ? { fields: [...held.fields] } : {}),
      ...(held.resume === null ? {} : { resume: held.resume }),
    });
  }

  private connect(): void {
    if (this.stopped) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const key = token();
    const protocols = key ? ["gemba.v1", `bearer.${key}`] : ["gemba.v1"];
    const socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, protocols);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      if (this.socket !== socket) return;
      opened = true;
      this.attempts = 0;
      this.hear();
      this.listener.opened();
      for (const [id, held] of this.held) this.subscribe(id, held);
    };
    socket.onmessage = (message: MessageEvent<string>) => {
      if (this.socket !== socket) return;
      this.hear();
      this.take(JSON.parse(message.data) as StreamFrame);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.lost(opened);
    };
  }

  private hear(): void {
    this.heardAt = Date.now();
  }

  private take(frame: StreamFrame): void {
    if (frame.type === "pong") {
      this.tellHeard();
      return;
    }
    if (frame.type === "live") {
      const held = this.held.get(frame.id);
      if (held) held.resume = frame.resume;
    }
    this.waiting.push(frame);
    const whole = frame.type === "live" && this.filling.delete(frame.id) && this.filling.size === 0;
    if (whole && this.flushing !== null && !document.hidden) {
      window.clearTimeout(this.flushing);
      this.flushing = window.setTimeout(this.flush);
    }
    if (frame.type === "error" && frame.id) this.filling.delete(frame.id);
    const wait = this.filling.size > 0 ? FLUSH_MS : Math.max(0, this.flushedAt + FLUSH_MS - performance.now());
    this.flushing ??= window.setTimeout(this.flush, document.hidden ? HIDDEN_FLUSH_MS : wait);
  }

  private readonly flush = (): void => {
    this.flushing = null;
    this.flushedAt = performance.now();
    const frames = this.waiting;
    const fresh = [...this.fresh];
    this.waiting = [];
    for (const frame of frames) if (frame.type === "subscribed") this.fresh.delete(frame.id);
    this.listener.came(frames, fresh);
    this.tellHeard();
  };

  /** How long ago the node was heard is shown in seconds, so it is told once a second. */
  private tellHeard(): void {
    if (this.heardAt - this.heardTold < 1000) return;
    this.heardTold = this.heardAt;
    this.listener.heard(this.heardAt);
  }

  private lost(opened: boolean): void {
    for (const held of this.held.values()) held.open = false;
    this.filling.clear();
    if (this.flushing !== null) {
      window.clearTimeout(this.flushing);
      this.flush();
    }
    this.listener.closed();
    if (opened) this.again();
    else void this.refused();
  }

  private again(): void {
    if (this.retry !== null) return;
    const wait = Math.min(8_000, 400 * 2 ** this.attempts) * (0.75 + Math.random() / 2);
    this.attempts += 1;
    this.retry = window.setTimeout(() => {
      this.retry = null;
      this.connect();
    }, wait);
  }

  /** A browser does not say why a socket was refused; an ordinary call does. */
  private async refused(): Promise<void> {
    const key = token();
    try {
      const answer = await fetch("/v1/ingest", key ? { headers: { authorization: `Bearer ${key}` } } : {});
      if (answer.status === 401) {
        this.listener.keyNeeded(key !== null);
        return;
      }
    } catch {
      // The node is not there; it is tried again.
    }
    this.again();
  }
}
