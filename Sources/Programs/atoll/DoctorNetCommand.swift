import ArgumentParser
import Foundation
import Node
import Primitives

extension DoctorCommand {
    /// `atoll doctor net`: what kind of line this is.
    struct Net: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "net", abstract: "What kind of line this machine has, and what to do about it.",
            discussion: """
                A daemon that runs here is asked. Without one, and with --invite, a node without a key joins the pool for some seconds, asks the router \
                for a port, lets others try to dial it, and goes. (docs/DOCTOR.md)
                """)
        @OptionGroup var options: DoctorOptions
        @OptionGroup var router: RouterOptions
        @Option(help: "How long others are waited for, in seconds.") var wait = 12

        func run() throws {
            guard (1...120).contains(wait) else { throw NodeError.badInput("--wait \(wait): 1 to 120 s") }
            var scene = try options.scene()
            if !Doctor(scene).knowsLine, let path = options.invite {
                let invite = try KnownPools.withKey(try Invite(file: path))
                let listen = try options.listen.map { try endpoint($0, option: "--listen") }
                if !options.json, isatty(2) == 1 {
                    complain("others are asked how they see this machine; that takes up to \(wait) s")
                }
                scene.probe = try LineProbe.look(
                    invite, listen: listen ?? Endpoint(ipv4: 0, 0, 0, 0, port: 0), seconds: wait,
                    router: router.choice())
            }
            let doctor = Doctor(scene)
            let all = doctor.examine().filter { $0.code.rawValue.hasPrefix("NET-") }
            let line = doctor.line()
            if options.json {
                print(options.object(all, line: line))
            } else {
                for part in TerminalText.current.wrapped(line.words, indent: 0) { print(part) }
                options.tell(all)
            }
            if !Doctor.isHealthy(all) { throw ExitCode(1) }
        }
    }
}
