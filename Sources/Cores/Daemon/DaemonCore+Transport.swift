import Channels
public import Primitives

extension DaemonCore {
    /// What the transport under the channels reports, live or simulated.
    public mutating func happened(_ event: StreamEvent, at now: Instant) {
        switch event {
        case .secured(let id, let stream):
            secured(
                ConnectionID(id), peer: stream.peer, exporter: stream.exporter, remote: stream.remote,
                inbound: stream.inbound, isTLSClient: stream.isTLSClient, at: now)
        case .dialFailed(let id, let isRefused): dialFailed(ConnectionID(id), refused: isRefused, at: now)
        case .received(let id, let bytes): received(ConnectionID(id), bytes, at: now)
        case .writable(let id, let unsent): writable(ConnectionID(id), unsent: unsent, at: now)
        case .closed(let id): closed(ConnectionID(id), at: now)
        }
    }
}
