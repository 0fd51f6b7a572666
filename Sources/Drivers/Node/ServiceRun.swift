import Coordination
public import Daemon
public import Digests
import EventLoop
import Foundation
public import Membership
import Pools
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
    private let journal = EventJournal()
    /// What a peer's owner lends; nil where there are no limits.
    public var keeper: LimitKeeper?
    /// Whether other programs take the processor from it; nil of who computes nothing, or is paced.
    public var processor: ProcessorWatch?
    /// Called once a second, for whoever shows what the daemon does.
    public var onSecond: ((ControlService.Status) -> Void)?
    /// Where `/metrics` is served, on loopback; nil for nowhere, 0 for a free port.
    public var metricsPort: UInt16?
    /// Called when it is served.
    public var onMetrics: (Endpoint) -> Void = { _ in }
    /// What the dashboard shows; nil where there is none.
    public var web: DashboardOptions?
    private var dashboard: Dashboard?
    private var manager: ServiceManager?
    private let told = ServiceManager.takeEnvironment()
    private var view = JobView()
    private var ticker: EventLoop.Timer?
    private var rooms: EventLoop.Timer?
    private var hasUnusedCode = true
    private var given: GivenWork?

    public init() {}

    /// A node or a peer: runs until ^C.
    public func run(
        _ setup: LiveDaemon.Setup, folder: DataFolder, services: (Instant) throws(NodeError) -> DaemonCore.Services,
        ready: (LiveDaemon) throws(NodeError) -> Void, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> RunEnd {
        let overlay = OverlayArchive(folder, poolKey: setup.membership?.book.authority.bytes ?? setup.poolKey)
        var setup = setup
        setup.state = overlay.state
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in try services(now) }
        self.daemon = daemon
        let archive = JobArchive(folder, daemon)
        self.archive = archive
        daemon.onEvent = { [unowned self] event in
            journal.note(event)
            if case .jobReleased = event.what { hasUnusedCode = true }
            given?.hear(event)
            if metricsPort != nil || web != nil { view.apply(event) }
            dashboard?.hear(event)
            onEvent(event)
        }
        daemon.onStore = { [unowned daemon] request, service in
            archive.perform(request) { [unowned daemon] ticket, outcome in daemon.stored(ticket, outcome, for: service)
            }
        }
        let stop = { [unowned self] in
            end = .interrupted
            manager?.stopping()
            daemon.stop()
        }
        watchSignals(stop)
        let control = try ControlService(
            loop, daemon, in: folder.path, keeper: keeper, journal: journal, leave: stop)
        let metrics = try serveMetrics { [unowned self, unowned control] in
            control.status.metrics + view.metrics(at: loop.now)
        }
        dashboard = try serveDashboard(control) { [unowned self] in view }
        if let dashboard { daemon.onComputed { [weak dashboard] in dashboard?.note($0, from: $1, to: $2) } }
        try ready(daemon)
        keeper?.attach(to: daemon)
        processor?.attach(to: daemon)
        if daemon.core.services.member?.terms.computes == true { given = GivenWork(daemon, in: folder.path) }
        control.machine = { [weak self] in (self?.processor?.status, self?.given?.status) }
        watchRoom(daemon, folder.path, setup.room as? ScratchFolder)
        overlay.attach(to: daemon)
        daemon.start()
        tick(control)
        turn(control)
        overlay.close()
        metrics?.close()
        dashboard?.close()
        control.close()
        rooms?.close()
        ticker?.close()
        keeper?.close()
        processor?.close()
        loop.close()
        return end
    }

    /// Runs the loop to its end, and tells the service manager of it where one has started this process.
    func turn(_ control: ControlService) {
        manager = ServiceManager(loop, told) { [unowned control] in control.status.daemon.clause }
        manager?.ready()
        loop.run()
        manager?.end()
    }

    /// Where it is wanted.
    func serveMetrics(_ families: @escaping () -> [MetricFamily]) throws(NodeError) -> MetricsService? {
        guard let metricsPort else { return nil }
        let service = try MetricsService(loop, port: metricsPort, families: families)
        onMetrics(service.endpoint)
        return service
    }

    /// Where it is wanted.
    func serveDashboard(
        _ control: ControlService, manifest: String? = nil, coordinator: @escaping () -> Coordinator? = { nil },
        view: @escaping () -> JobView
    ) throws(NodeError) -> Dashboard? {
        guard let web else { return nil }
        let dashboard = try Dashboard(
            loop, web, manifest: manifest, status: { [unowned control] in control.status }, view: view,
            coordinator: coordinator)
        control.dashboard = { [weak dashboard] in dashboard?.address }
        web.onAddress(dashboard.address!)
        return dashboard
    }

    private func tick(_ control: ControlService) {
        let timer = EventLoop.Timer(loop) { [unowned self, unowned control] in
            given?.look()
            if let onSecond { onSecond(control.status) }
            ticker?.arm(at: loop.now + .seconds(1))
        }
        ticker = timer
        timer.arm(at: loop.now + .seconds(1))
    }

    /// Looks at the disk now and every ten seconds.
    /// - Parameter scratch: files without a name, which count like those with one.
    private func watchRoom(_ daemon: LiveDaemon, _ folder: String, _ scratch: ScratchFolder?) {
        let look = { [unowned self, unowned daemon] in
            let limit = keeper?.disk
            // A folder of many files takes a while to look through.
            daemon.offLoop({ () -> Int? in
                let free = freeBytes(folder)
                guard let limit else {
                    scratch?.allow(.max)
                    return free
                }
                let named = max(0, limit.bytes - usedBytes(folder))
                scratch?.allow(named)
                let left = max(0, named - (scratch?.held ?? 0))
                return min(free ?? left, left)
            }) { [weak daemon] free in
                guard let free else { return }
                daemon?.count(room: DiskRoom(free: ByteCount(free), place: folder))
            }
        }
        look()
        var turns = 0
        let timer = EventLoop.Timer(loop) { [unowned self, unowned daemon] in
            look()
            turns += 1
            // What the start needed, or a job, and nobody needs now; of who has no job also what questions and strangers have gone over meanwhile.
            let isIdle = daemon.core.services.member?.isWorking != true
            if hasUnusedCode || isIdle && turns % 30 == 0 { ProgramPages.release() }
            hasUnusedCode = false
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

/// What the files of a folder take, those of folders within it included.
@Sendable func usedBytes(_ folder: String) -> Int {
    var sum = 0
    for name in FileManager.default.enumerator(atPath: folder) ?? .init() {
        var info = stat()
        guard let name = name as? String, lstat(folder + "/" + name, &info) == 0, info.st_mode & S_IFMT == S_IFREG
        else { continue }
        sum += Int(info.st_blocks) * 512
    }
    return sum
}
