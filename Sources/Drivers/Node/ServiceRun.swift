import Coordination
public import Daemon
public import Digests
import EventLoop
import Foundation
public import Membership
public import Primitives
public import Telemetry

/// How a daemon process ended.
public enum RunEnd: Sendable {
    case done
    case interrupted
    case failed(String)
}

/// Runs a loop with one daemon until it ends or a signal asks it to.
public final class ServiceRun {
    public let loop = Loop()
    public private(set) var daemon: LiveDaemon!
    private var signals: [SignalWatcher] = []
    private var archive: JobArchive?
    private var end = RunEnd.done
    private var rooms: EventLoop.Timer?

    public init() {}

    /// A node or a peer: runs until ^C.
    public func run(
        _ setup: LiveDaemon.Setup, folder: DataFolder, services: (Instant) throws(NodeError) -> DaemonCore.Services,
        ready: (LiveDaemon) throws(NodeError) -> Void, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> RunEnd {
        let overlay = OverlayArchive(folder, poolKey: setup.poolKey)
        var setup = setup
        setup.state = overlay.state
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in try services(now) }
        self.daemon = daemon
        let archive = JobArchive(folder, daemon)
        self.archive = archive
        daemon.onEvent = onEvent
        daemon.onStore = { [unowned daemon] request, service in
            archive.perform(request) { [unowned daemon] ticket, outcome in daemon.stored(ticket, outcome, for: service)
            }
        }
        let stop = { [unowned self] in
            end = .interrupted
            daemon.stop()
        }
        watchSignals(stop)
        let control = try ControlService(loop, daemon, in: folder.path, leave: stop)
        try ready(daemon)
        watchRoom(daemon, folder.path)
        overlay.attach(to: daemon)
        daemon.start()
        loop.run()
        overlay.close()
        control.close()
        rooms?.close()
        loop.close()
        return end
    }

    /// Looks at the disk now and every ten seconds.
    private func watchRoom(_ daemon: LiveDaemon, _ folder: String) {
        let look = { [unowned daemon] in
            guard let free = freeBytes(folder) else { return }
            daemon.count(room: DiskRoom(free: ByteCount(free), place: folder))
        }
        look()
        let timer = EventLoop.Timer(loop) { [unowned self] in
            look()
            rooms?.arm(at: loop.now + .seconds(10))
        }
        rooms = timer
        timer.arm(at: loop.now + .seconds(10))
    }

    func watchSignals(_ stop: @escaping () -> Void) {
        var asked = false
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signals.append(
                SignalWatcher(loop, signal: number) {
                    // The second time, at once.
                    if asked { _exit(130) }
                    asked = true
                    stop()
                })
        }
    }
}
