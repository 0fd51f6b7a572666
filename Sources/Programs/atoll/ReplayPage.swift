import ArgumentParser
import Coordination
import Daemon
import EventLoop
import Foundation
import Membership
import Node
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Topologies
import Training

/// A run's page, with a slider over its time.
struct ReplayPageOptions: ParsableArguments {
    @Option(help: "Write a page about the run, with a slider over its time: one file that needs nothing else.")
    var html: String?
    @Option(help: "Then serve that page on loopback, and print how it is opened; 0 or nothing takes a free port.")
    var web: UInt16?

    var isWanted: Bool { html != nil || web != nil }

    func refuse(_ where: String) throws {
        guard !isWanted else { throw NodeError.badInput("--html and --web show one run of a topology: not \(`where`)") }
    }

    /// Before anything is computed.
    func prepare() throws { if let html { try requireWritable(html, for: "--html") } }

    /// Writes the file; serves until ^C.
    func show(_ records: [String]) throws {
        if let html { try writeFile(html, Array(DashboardPage.file(records).utf8)) }
        guard let web else { return }
        let loop = Loop()
        let service = try DashboardService(
            loop, port: web, page: { DashboardPage.served(nonce: $0, records: records) }, snapshot: { [] }, news: { [] }
        )
        let signals = [SIGINT, SIGTERM, SIGHUP].map { number in SignalWatcher(loop, signal: number) { loop.stop() } }
        complain("the run's page opens once, at this address; ^C ends it:\n  \(service.address)")
        loop.run()
        withExtendedLifetime(signals) { service.close() }
    }
}

/// What a page is told of a simulated run: events as they come, and how things are now and then.
final class ReplayPicture {
    private var picture: DashboardPicture
    private var view = JobView(limits: .report)
    private let subject: JobStory.Subject
    private let launchers: Set<String>
    private var heard = 0
    private var next = Instant.zero
    /// Virtual time between two looks, which doubles with every so many of them.
    private var pause = Duration.milliseconds(100)
    private var looks = 0
    private static let looksBeforeDoubling = 2000

    /// - Parameter isComputed: arithmetic is done; else only its time is charged, and there is no loss.
    init(_ topology: Topology, _ manifest: JobManifest, parameters: Int, isComputed: Bool) {
        picture = DashboardPicture(since: .zero, manifest: manifest, keepsAll: true, isComputed: isComputed)
        subject = JobStory.Subject(name: manifest.name, parameters: parameters)
        launchers = Set(topology.hosts.filter { $0.role == .coordinator }.map(\.name))
    }
    var records: [String] { picture.feed.all }

    /// A piece of a simulated peer's work.
    func note(_ job: ComputeJob, of host: String, from: Instant, to: Instant) {
        picture.note(job, of: host, from: from, to: to)
    }
    /// - Parameter isLast: look, whenever that was done last.
    func look(_ world: World, isLast: Bool = false) {
        guard let (daemon, now) = world.leaderStatus else { return }
        for (host, event) in world.events[heard...] {
            view.apply(event, from: host)
            let isLauncher = launchers.contains(host)
            let isTold = isLauncher || ReplaySummary.isTold(event.what)
            picture.hear(event, sentence: isTold ? event.sentence : nil, from: isLauncher ? "" : host)
        }
        heard = world.events.count
        guard now >= next || isLast else { return }
        looks += 1
        if looks % Self.looksBeforeDoubling == 0 { pause = pause * 2 }
        next = now + pause
        let coordinator = world.coordinator
        let done = coordinator.state.seals.isEmpty ? 0 : coordinator.state.sealedTokens
        let elapsed = view.trainingSince.map { (now - $0).inSeconds } ?? 0
        view.apply(
            Event(
                .status(
                    of: coordinator.state, phase: coordinator.stage.word,
                    members: coordinator.roster.joined.map { (name: $0.name, heartbeat: $0.heartbeat) },
                    sentBytes: coordinator.roster.sentBytes,
                    tokensPerSecond: elapsed > 0 ? Double(done) / elapsed : 0), at: now))
        let story = JobStory(subject: subject, job: view, leading: daemon.coordinator)
        picture.look(.init(daemon: daemon, view: view, coordinator: coordinator, now: story.paragraphs), at: now)
    }
}
