import ArgumentParser
import Daemon
import Node
import Primitives

/// Whether the router of this machine is asked for a port.
struct RouterOptions: ParsableArguments {
    @Flag(help: "Do not ask the router to let this port in (PCP, NAT-PMP).") var noPortMapping = false

    /// - Parameter isWanted: by whatever else its owner has said.
    func choice(isWanted: Bool = true) -> RouterChoice { noPortMapping || !isWanted ? .none : .ofSystem }
}

/// How others come in.
struct DoorOptions: ParsableArguments {
    @Option(help: "Where to listen, UDP and TCP; port 0 takes a free one.") var listen = Self.anywhere
    @OptionGroup var router: RouterOptions

    static let anywhere = "0.0.0.0:0"
}

/// What a router does with the port of a daemon, in a sentence.
enum ForwardingText {
    static func sentence(_ forwarding: DaemonStatus.Forwarding) -> String {
        let port = forwarding.endpoint.flatMap { Endpoint($0) }.map { "\($0.port)" } ?? "?"
        switch forwarding.state {
        case .asking: return "Its router is being asked to let its port in."
        case .silent: return "Its router does not answer when it is asked to let its port in (PCP, NAT-PMP)."
        case .refused: return "Its router does not let its port in: \(forwarding.why ?? "it says no")."
        case .untried:
            return "Port \(port) of your router is forwarded here, as the router says; nobody has come in there yet."
        case .open:
            let until = forwarding.secondsLeft.map {
                ", until \(clockTime(ahead: $0).dropLast(3)) and longer while this runs"
            }
            return "Port \(port) of your router is forwarded here (\(forwarding.spoken ?? "by request"))\(until ?? "")."
        case .vain:
            return "Your router says that it forwards its port \(port) here, and others who tried it did not come in."
        case .behind:
            return
                "Your router forwards its port \(port) here, and another router stands in front of it: nobody comes in from outside."
        }
    }
}
