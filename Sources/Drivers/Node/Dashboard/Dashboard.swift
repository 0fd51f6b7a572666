internal import Compute
import Coordination
import Daemon
import EventLoop
import Planning
import Primitives
import Telemetry
import Topologies

/// A process's page: what happens and how things are goes in, records come out, to whoever has the page open.
final class Dashboard {
    private let options: DashboardOptions
    private let status: () -> ControlService.Status
    private let view: () -> JobView
    private let coordinator: () -> Coordinator?
    private let loop: Loop
    private var picture: DashboardPicture
    private var name: String?
    private var service: DashboardService?
    /// Told once a second while somebody has the page open.
    var onLook: () -> Void = {}

    /// - Parameters:
    ///   - manifest: the job, where this process launched it.
    ///   - coordinator: while this process leads.
    init(
        _ loop: Loop, _ options: DashboardOptions, manifest: String? = nil,
        status: @escaping () -> ControlService.Status,
        view: @escaping () -> JobView, coordinator: @escaping () -> Coordinator? = { nil }
    ) throws(NodeError) {
        self.loop = loop
        self.options = options
        self.status = status
        self.view = view
        self.coordinator = coordinator
        picture = DashboardPicture(
            since: loop.now, manifest: manifest.flatMap { try? JobManifest(parsing: $0) })
        service = try DashboardService(
            loop, port: options.port, page: { DashboardPage.served(nonce: $0) },
            snapshot: { [unowned self] in picture.feed.snapshot(at: loop.now) },
            news: { [unowned self] in
                if service?.isSeen == true { onLook() }
                look()
                return picture.take()
            })
    }
    func close() {
        service?.close()
        service = nil
    }
    /// Opens the page once.
    var address: String? { service?.address }

    /// Of this peer's own work.
    func note(_ job: ComputeJob, from: Instant, to: Instant) {
        guard let name else { return }
        picture.note(job, of: name, from: from, to: to)
    }
    func hear(_ event: Event) { picture.hear(event, sentence: options.sentence(event)) }

    private func look() {
        let (status, view) = (status(), view())
        name = status.daemon.member?.name
        let story = options.story(status, view)
        picture.look(
            .init(
                daemon: status.daemon, view: view, coordinator: coordinator(), now: story.now, limits: story.limits,
                sentBytes: status.sentBytes, receivedBytes: status.receivedBytes), at: loop.now)
    }
}
