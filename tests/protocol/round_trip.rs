//! What is written is read back, on its own topic.

use iotdm::protocol::{Address, Report, Request, Response, ToDevice, ToService};
use proptest::option;
use proptest::prelude::*;

use crate::values;

fn addresses() -> [Address; 2] {
    [
        Address::Session,
        Address::Device("edge-gateway/gw-0001".parse().unwrap()),
    ]
}

proptest! {
    #[test]
    fn env_01_every_request_is_read_back(request in values::request(), req_id in option::of(values::req_id())) {
        let payload = request.to_payload(req_id.as_ref());
        for address in addresses() {
            let topic = request.kind().topic(&address);
            let (to, kind) = ToDevice::parse(&topic).unwrap();
            prop_assert_eq!(to, address);
            prop_assert_eq!(Request::parse(&kind, &payload), Ok((request.clone(), req_id.clone())));
        }
    }

    #[test]
    fn env_01_every_report_is_read_back(report in values::report(), req_id in option::of(values::req_id())) {
        let payload = report.to_payload(req_id.as_ref());
        for address in addresses() {
            let topic = report.kind().topic(&address);
            let (from, kind) = ToService::parse(&topic).unwrap();
            prop_assert_eq!(from, address);
            prop_assert_eq!(Report::parse(kind, &payload), Ok((report.clone(), req_id.clone())));
        }
    }

    #[test]
    fn env_01_every_response_is_read_back(response in values::response()) {
        prop_assert_eq!(Response::parse(&response.to_payload()), Ok(response));
    }

    #[test]
    fn what_is_written_is_the_same_bytes_when_it_is_read_and_written_again(report in values::report()) {
        let payload = report.to_payload(None);
        let (again, _) = Report::parse(report.kind(), &payload).unwrap();
        prop_assert_eq!(again.to_payload(None), payload);
    }
}
