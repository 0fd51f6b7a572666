import Coordination
import Daemon
import Digests
import Kademlia
import Links
import Primitives
import Record
import Telemetry
import Topologies
import VirtualNetworks

enum TimedAction {
    case strike(Fault)
    /// Its line is dead until then.
    case darken(host: Int, until: Instant)
    /// What was held on a line that was cut comes through.
    case deliverHeld(from: Int, to: Int)
    /// A process begins.
    case start(host: Int)
    /// One of its lives is over.
    case close(host: Int, life: Int)
    /// Whoever leads the job dies.
    case killLeader
    /// All who carry the record die.
    case killElectors
    /// A trouble of the storm begins, or ends.
    case trouble(Int, begins: Bool)
    /// A dial to find out whether somebody can be reached has come to its end.
    case dialledBack(host: Int, life: Int, DialBack, reached: Bool)
    /// The storm's checkers look at the world.
    case look
}

/// What the time line does to hosts.
extension World {
    func act(_ action: TimedAction) {
        switch action {
        case .strike(let fault): strike(fault)
        case .darken(let host, let until): darken(host, until: until)
        case .deliverHeld(let from, let to): network.deliverHeld(from: from, to: to)
        case .start(let host): start(hosts[host])
        case .close(let host, let life): if hosts[host].lives == life { kill(hosts[host]) }
        case .dialledBack(let host, let life, let dial, let reached):
            guard hosts[host].lives == life, hosts[host].frozenSince == nil, network.isUp(host) else { return }
            hosts[host].daemon!.dialledBack(dial, reached: reached, at: now)
            drain(hosts[host])
        case .killLeader: killLeader()
        case .killElectors: killElectors()
        case .trouble(let number, let begins): storm?.act(number, begins: begins, on: self)
        case .look: storm?.look(at: self)
        }
    }

    private func killLeader() {
        guard end == nil, let host = leader else { return }
        kill(host)
        tell(Event(.fault(kind: "kill the leader"), at: now), of: host)
        if let away = options.leaderDeaths?.away { schedule(.start(host: host.index), at: now + away) }
    }

    private func killElectors() {
        guard end == nil, let lost = options.lostMajority else { return }
        let keys = coordinator.record.electors
        for host in hosts where keys.contains(host.key.peerID) {
            kill(host)
            tell(Event(.fault(kind: "kill an elector"), at: now), of: host)
            if host.index == coordinatorIndex {
                if lost.losesDisk { host.disk = VirtualDisk(seed: options.seed &+ 77) }
            } else if let back = lost.othersBack {
                schedule(.start(host: host.index), at: now + back)
            }
        }
        let founder = hosts.last { topology.hosts[$0.index].role == .coordinator }!
        founder.next.refounds = true
        schedule(.start(host: founder.index), at: now + lost.refoundedAfter)
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

    /// The line is dead: what is offered waits for its end, and so does what was meant for it, at the others.
    private func darken(_ host: Int, until: Instant) {
        setLinks(of: host, delayedBy: max(.zero, until - now))
        guard until > now else { return }
        schedule(.darken(host: host, until: until), at: min(until, now + .milliseconds(250)))
    }

    private func strike(_ fault: Fault) {
        guard let host = hosts.first(where: { $0.name == fault.host }) else { return }
        switch fault.kind {
        case .kill: kill(host)
        case .leave:
            guard network.isUp(host.index) else { return }
            host.daemon!.stop(at: now)
            drain(host)
            host.flows?.shutdown(at: now)
            drain(host)
            kill(host)
        case .join: start(host)
        case .slow(let factor): slow(host, by: factor)
        case .throttle(let factor):
            let lines = topology.hosts[host.index]
            network.setAccess(
                of: host.index,
                AccessRates(
                    up: BitRate(bitsPerSecond: lines.up.bitsPerSecond / factor),
                    down: BitRate(bitsPerSecond: lines.down.bitsPerSecond / factor)))
        case .renumber: renumber(host)
        case .remap: forgetMappings(of: host)
        case .cut(let seconds):
            darken(host.index, until: now + .nanoseconds(Int64(seconds * 1e9)))
        }
        tell(Event(.fault(kind: "\(fault.kind)"), at: now), of: host)
    }
}
