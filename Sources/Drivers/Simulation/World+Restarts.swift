import Daemon
import Kademlia
import Links
import Primitives
import Telemetry
import Topologies
import VirtualNetworks

/// The lives of hosts: processes end and begin again on the disks that are left, stand still, sleep, and move.
extension World {
    /// The process is gone without a word; the kernel closes its connections. Its memory is lost with it: what is left of the daemon is
    /// there to be looked at, and never runs again.
    func kill(_ host: SimulatedHost) { stop(host) { $0.setUp(false, $1) } }
    /// The machine has no power: nobody is told.
    func unplug(_ host: SimulatedHost) { stop(host) { $0.unplug($1) } }

    private func stop(_ host: SimulatedHost, _ pull: (inout VirtualNetwork, Int) -> Void) {
        guard network.isUp(host.index) else { return }
        host.remembered = host.daemon?.directory.overlay.state(at: now)
        pull(&network, host.index)
        host.flows = nil
        host.results = []
        host.planAnswer = nil
        host.frozenSince = nil
        host.busyUntil = now
        host.disk?.crash(during: host.writes.map(\.request))
        host.writes = []
    }

    /// A process begins on the host: its first, or another on what the one before has left on disk.
    func start(_ host: SimulatedHost, port: UInt16? = nil) {
        guard !network.isUp(host.index), storm?.mayStart(host.index) != false else { return }
        if host.lives > 0 || host.next.refounds {
            if let port { move(host, to: Endpoint(address: host.endpoint.address, port: port)!) }
            host.disk?.open()
            install(on: host)
        }
        host.lives += 1
        host.startedAt = now
        network.setUp(true, host.index)
        drain(host)
    }

    /// The host is found elsewhere from now on; what it was connected with is not told.
    func move(_ host: SimulatedHost, to endpoint: Endpoint) {
        network.relocate(host.index, to: endpoint)
        host.endpoint = endpoint
    }

    /// The process stands still; so does what it computes.
    func freeze(_ host: SimulatedHost) {
        guard network.isUp(host.index), host.frozenSince == nil else { return }
        host.frozenSince = now
        network.freeze(host.index)
    }
    func thaw(_ host: SimulatedHost) {
        guard let since = host.frozenSince else { return }
        host.frozenSince = nil
        let pause = now - since
        for index in host.results.indices where host.results[index].at > since { host.results[index].at += pause }
        if host.busyUntil > since { host.busyUntil += pause }
        if let answer = host.planAnswer, answer.at > since { host.planAnswer!.at += pause }
        network.thaw(host.index)
        network.setAlarm(of: host.index, at: host.nextWake)
    }

    /// The disk is slow no more: what waits for it is done soon, too.
    func hasten(_ host: SimulatedHost) {
        guard host.disk != nil else { return }
        var last = max(now, host.disk!.stalledUntil)
        for index in host.writes.indices {
            last = min(host.writes[index].at, last + host.disk!.time())
            host.writes[index].at = last
        }
        if network.isUp(host.index) { network.setAlarm(of: host.index, at: host.nextWake) }
    }
    /// The device computes so much slower from now on, what it has begun too; a factor below 1 makes it faster.
    func slow(_ host: SimulatedHost, by factor: Double) {
        host.flops /= factor
        let start = host.frozenSince ?? now
        func stretched(_ moment: Instant) -> Instant {
            moment > start ? start + (moment - start) * factor : moment
        }
        for index in host.results.indices { host.results[index].at = stretched(host.results[index].at) }
        host.busyUntil = stretched(host.busyUntil)
        guard network.isUp(host.index) else { return }
        network.setAlarm(of: host.index, at: host.nextWake)
    }

    /// From now on nothing passes.
    package func cut(from: Int, to: Int) { network.cut(from: from, to: to) }
    func mend(from: Int, to: Int) {
        guard let due = network.mend(from: from, to: to) else { return }
        schedule(.deliverHeld(from: from, to: to), at: due)
    }

    func schedule(_ action: TimedAction, at moment: Instant) {
        let place = timeline.firstIndex { $0.at > moment } ?? timeline.endIndex
        timeline.insert((moment, action), at: place)
    }
}
