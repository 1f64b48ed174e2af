// What stands where a view failed: the reason, and a way on. The frame around it stays.
import Button from "@mui/material/Button";
import { Component, type ReactNode } from "react";
import { t } from "../words";

type Props = { children: ReactNode; /** Another place is another chance. */ place: string };
type State = { failed: Error | null; place: string };

export class Guard extends Component<Props, State> {
  override state: State = { failed: null, place: this.props.place };

  static getDerivedStateFromError(failed: Error): Partial<State> {
    return { failed };
  }

  static getDerivedStateFromProps(props: Props, state: State): Partial<State> | null {
    return props.place === state.place ? null : { failed: null, place: props.place };
  }

  override render(): ReactNode {
    const { failed } = this.state;
    if (!failed) return this.props.children;
    // A part of the page that is fetched late may be of a version that the node no longer has.
    const renewed = /import|module|fetch|load/i.test(failed.message);
    return (
      <div className="empty" role="alert">
        <p>{renewed ? t("app.renewed") : t("app.broken", { detail: failed.message })}</p>
        <Button variant="contained" onClick={() => window.location.reload()}>{t("app.reload")}</Button>
      </div>
    );
  }
}
