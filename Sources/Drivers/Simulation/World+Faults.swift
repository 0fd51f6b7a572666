import Daemon
import Links
import Primitives
import Telemetry
import Topologies

enum TimedAction {
    case strike(Fault)
    case restore(host: Int)
}

/// What the time line does to hosts.
extension World {
    func act(_ action: TimedAction) {
        switch action {
        case .strike(let fault): strike(fault)
        case .restore(let host): setLinks(of: hosts[host], delayedBy: .zero)
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
            // The line is dead: what is offered waits, and what was meant for it waits at the others.
            setLinks(of: host, delayedBy: .nanoseconds(Int64(seconds * 1e9)))
            timeline.append((now + .nanoseconds(Int64(seconds * 1e9)), .restore(host: host.index)))
            timeline.sort { $0.at < $1.at }
        }
        events.append((host.name, Event(.fault(kind: "\(fault.kind)"), at: now)))
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
