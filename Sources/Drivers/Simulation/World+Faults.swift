import Daemon
import Links
import Primitives
import Telemetry
import Topologies

enum TimedAction {
    case strike(Fault)
    /// Its line is dead until then.
    case darken(host: Int, until: Instant)
}

/// What the time line does to hosts.
extension World {
    func act(_ action: TimedAction) {
        switch action {
        case .strike(let fault): strike(fault)
        case .darken(let host, let until): darken(host, until: until)
        }
    }

    private func setLinks(of host: SimulatedHost, delayedBy delay: Duration) {
        for other in hosts where other.index != host.index {
            var away = topology.link(from: other.index, to: host.index)
            away.latency += delay
            other.shaper.setLink(to: HostID(UInt64(host.index)), away)
            var home = topology.link(from: host.index, to: other.index)
            home.latency += delay
            host.shaper.setLink(to: HostID(UInt64(other.index)), home)
        }
    }

    /// The line is dead: what is offered waits for its end, and so does what was meant for it, at the others.
    private func darken(_ host: Int, until: Instant) {
        setLinks(of: hosts[host], delayedBy: max(.zero, until - now))
        guard until > now else { return }
        timeline.append((min(until, now + .milliseconds(250)), .darken(host: host, until: until)))
        timeline.sort { $0.at < $1.at }
    }

    private func strike(_ fault: Fault) {
        guard let host = hosts.first(where: { $0.name == fault.host }) else { return }
        switch fault.kind {
        case .kill: kill(host)
        case .leave:
            guard host.alive else { return }
            host.daemon!.stop(at: now)
            drain(host)
            kill(host)
        case .join: if !host.alive { start(host) }
        case .slow(let factor): host.flops /= factor
        case .throttle(let factor):
            let lines = topology.hosts[host.index]
            host.shaper.setUp(BitRate(bitsPerSecond: lines.up.bitsPerSecond / factor))
            host.reception.setDown(BitRate(bitsPerSecond: lines.down.bitsPerSecond / factor))
        case .cut(let seconds):
            darken(host.index, until: now + .nanoseconds(Int64(seconds * 1e9)))
        }
        tell(Event(.fault(kind: "\(fault.kind)"), at: now), of: host)
        arm(host)
    }

    /// The process is gone without a word; the kernel closes its connections.
    private func kill(_ host: SimulatedHost) {
        guard host.alive else { return }
        host.alive = false
        host.results = []
        for connection in host.idOf.keys.sorted() { close(connection, by: host) }
    }
}
