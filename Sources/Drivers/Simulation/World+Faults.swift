import Daemon
import Links
import Primitives
import Telemetry
import Topologies
import VirtualNetworks

enum TimedAction {
    case strike(Fault)
    case restore(host: Int)
}

/// What the time line does to hosts.
extension World {
    func act(_ action: TimedAction) {
        switch action {
        case .strike(let fault): strike(fault)
        case .restore(let host): setLinks(of: host, delayedBy: .zero)
        }
    }

    private func setLinks(of host: Int, delayedBy delay: Duration) {
        for other in hosts.indices where other != host {
            var away = topology.link(from: other, to: host)
            away.latency += delay
            network.setLink(from: other, to: host, away)
            var home = topology.link(from: host, to: other)
            home.latency += delay
            network.setLink(from: host, to: other, home)
        }
    }

    private func strike(_ fault: Fault) {
        guard let host = hosts.first(where: { $0.name == fault.host }) else { return }
        switch fault.kind {
        case .kill: kill(host)
        case .leave:
            guard network.isUp(host.index) else { return }
            host.daemon!.stop(at: now)
            drain(host)
            kill(host)
        case .join: if !network.isUp(host.index) { start(host) }
        case .slow(let factor): host.flops /= factor
        case .throttle(let factor):
            let lines = topology.hosts[host.index]
            network.setAccess(
                of: host.index,
                AccessRates(
                    up: BitRate(bitsPerSecond: lines.up.bitsPerSecond / factor),
                    down: BitRate(bitsPerSecond: lines.down.bitsPerSecond / factor)))
        case .cut(let seconds):
            // The line is dead: what is offered waits, and what was meant for it waits at the others.
            setLinks(of: host.index, delayedBy: .nanoseconds(Int64(seconds * 1e9)))
            timeline.append((now + .nanoseconds(Int64(seconds * 1e9)), .restore(host: host.index)))
            timeline.sort { $0.at < $1.at }
        }
        tell(Event(.fault(kind: "\(fault.kind)"), at: now), of: host)
    }

    /// The process is gone without a word; the kernel closes its connections.
    private func kill(_ host: SimulatedHost) {
        network.setUp(false, host.index)
        host.results = []
    }
}
