/** How a client reaches its sidecar: endpoint, TLS, token, channel options, metadata. */

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { ChannelCredentials, type ChannelOptions, credentials, Metadata } from "@grpc/grpc-js";

export const DEFAULT_ENDPOINT = "127.0.0.1:50071";
export const DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const ENDPOINT_VARIABLE = "SIDECALL_ENDPOINT";
const MAX_MESSAGE_VARIABLE = "SIDECALL_MAX_INBOUND_MESSAGE_BYTES";
const MIN_KEEPALIVE_MS = 10_000;
const NEAR = ["unix:", "127.", "localhost:", "[::1]:"];

/** A token, or what gives the one in force; it is asked before each RPC. */
export type Token = string | (() => string | Promise<string>);

/** Metadata of RPCs: trace context, for example. */
export type RpcMetadata = Readonly<Record<string, string>>;

/** Files for TLS. */
export interface TlsOptions {
  /** PEM file of the authorities to trust; by default those of Node.js. */
  caFile?: string | undefined;
  /** PEM file of the client's certificate chain, for mutual TLS. */
  certFile?: string | undefined;
  /** PEM file of the key that goes with it. */
  keyFile?: string | undefined;
  /** Name that the sidecar's certificate must have; by default the endpoint's host. */
  serverName?: string | undefined;
}

/** How to reach a sidecar. */
export interface ConnectionOptions {
  /**
   * `host:port` or `unix:/path`; by default the environment's SIDECALL_ENDPOINT, then
   * 127.0.0.1:50071.
   */
  endpoint?: string | undefined;
  /** Sent as a bearer token. See `tokenFromFile` for one that is rotated. */
  token?: Token | undefined;
  /** For TLS; by default the connection is plain. */
  tls?: TlsOptions | ChannelCredentials | undefined;
  /**
   * Sent with each RPC. A function is asked before each: a place to inject the trace context
   * of whatever is active then.
   */
  metadata?: RpcMetadata | (() => RpcMetadata) | undefined;
  /**
   * Largest message sent or received; by default the environment's
   * SIDECALL_MAX_INBOUND_MESSAGE_BYTES, then 16 MiB.
   */
  maxMessageBytes?: number | undefined;
  /**
   * Milliseconds of silence after which the connection is probed, at least 10 000. By default
   * it is not: a sidecar is near, and a host has heartbeats of its own.
   */
  keepaliveMs?: number | undefined;
}

/** Everything that a channel and its RPCs need. */
export interface Connection {
  readonly target: string;
  readonly credentials: ChannelCredentials;
  readonly channelOptions: ChannelOptions;
  /** Largest message sent or received. */
  readonly maxMessageBytes: number;
  /** Makes the metadata of one RPC. */
  readonly metadata: (extra?: RpcMetadata) => Promise<Metadata>;
}

/** Returns a token that is read from a file before each RPC. */
export function tokenFromFile(path: string): () => Promise<string> {
  return async () => (await readFile(path, "utf8")).trim();
}

/**
 * Fills what is not given from the environment, then from the defaults.
 *
 * @throws RangeError: The endpoint or a number makes no sense.
 */
export function resolveConnection(
  options: ConnectionOptions,
  environ: NodeJS.ProcessEnv = process.env,
): Connection {
  const target = checkedEndpoint(
    options.endpoint || environ[ENDPOINT_VARIABLE] || DEFAULT_ENDPOINT,
  );
  const maxMessageBytes = messageBytes(options.maxMessageBytes, environ);
  return {
    target,
    credentials: credentialsOf(options.tls),
    channelOptions: channelOptions(target, options, maxMessageBytes),
    maxMessageBytes,
    metadata: (extra) => metadataOf(options, extra),
  };
}

function checkedEndpoint(endpoint: string): string {
  if (endpoint.startsWith("unix:")) return endpoint;
  if (!/^[^/]+:\d+$/.test(endpoint)) {
    throw new RangeError(
      `endpoint must be host:port or unix:/path, not ${JSON.stringify(endpoint)}`,
    );
  }
  return endpoint;
}

function credentialsOf(tls: TlsOptions | ChannelCredentials | undefined): ChannelCredentials {
  if (!tls) return credentials.createInsecure();
  if (tls instanceof ChannelCredentials) return tls;
  const read = (path: string | undefined): Buffer | null =>
    path === undefined ? null : readFileSync(path);
  return credentials.createSsl(read(tls.caFile), read(tls.keyFile), read(tls.certFile));
}

function messageBytes(given: number | undefined, environ: NodeJS.ProcessEnv): number {
  const text = environ[MAX_MESSAGE_VARIABLE];
  const bytes = given ?? (text ? Number(text) : DEFAULT_MAX_MESSAGE_BYTES);
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    const what = given === undefined ? MAX_MESSAGE_VARIABLE : "maxMessageBytes";
    throw new RangeError(`${what} must be a positive number of bytes, not ${given ?? text ?? ""}`);
  }
  return bytes;
}

function channelOptions(
  target: string,
  options: ConnectionOptions,
  maxMessageBytes: number,
): ChannelOptions {
  const { keepaliveMs } = options;
  // A sidecar ends connections that probe it more often.
  if (keepaliveMs !== undefined && !(keepaliveMs >= MIN_KEEPALIVE_MS)) {
    throw new RangeError(`keepaliveMs must be at least ${MIN_KEEPALIVE_MS}, not ${keepaliveMs}`);
  }
  const serverName =
    options.tls && "serverName" in options.tls ? options.tls.serverName : undefined;
  return {
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    // A sidecar is near: when it restarts, seconds of reconnect backoff serve nobody.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
    // Closing one client must not depend on whether another has the same address.
    "grpc.use_local_subchannel_pool": 1,
    // The socket's path would become the authority, which many servers refuse.
    ...(target.startsWith("unix:") && { "grpc.default_authority": "localhost" }),
    ...(NEAR.some((prefix) => target.startsWith(prefix)) && { "grpc.enable_http_proxy": 0 }),
    ...(serverName !== undefined && { "grpc.ssl_target_name_override": serverName }),
    ...(keepaliveMs !== undefined && { "grpc.keepalive_time_ms": keepaliveMs }),
  };
}

async function metadataOf(options: ConnectionOptions, extra: RpcMetadata = {}): Promise<Metadata> {
  const metadata = new Metadata();
  const own = typeof options.metadata === "function" ? options.metadata() : options.metadata;
  for (const [key, value] of Object.entries({ ...own, ...extra })) metadata.set(key, value);
  if (options.token !== undefined) {
    const token = typeof options.token === "function" ? await options.token() : options.token;
    metadata.set("authorization", `Bearer ${token}`);
  }
  return metadata;
}
