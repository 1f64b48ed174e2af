// Asks for an API key where the node wants one.
import Button from "@mui/material/Button";
import TextField from "@mui/material/TextField";
import type { FormEvent, ReactElement } from "react";
import { http } from "../api/http";
import { setToken } from "../api/token";
import { trying } from "../live/connection";
import { t } from "../words";
import { useAppDispatch } from "./store";

export const Login = ({ refused, onDone }: { refused: boolean; onDone: () => void }): ReactElement => {
  const dispatch = useAppDispatch();
  const send = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const key = new FormData(event.currentTarget).get("key");
    if (typeof key !== "string" || key.trim() === "") return;
    setToken(key.trim());
    dispatch(trying());
    dispatch(http.util.resetApiState());
    onDone();
  };
  return (
    <main id="content" className="login">
      <form onSubmit={send} className="panel">
        <h1>{t("login.title")}</h1>
        <p>{t("login.help")}</p>
        <TextField name="key" type="password" label={t("login.field")} autoComplete="off" autoFocus fullWidth error={refused} {...(refused ? { helperText: t("live.key_refused") } : {})} />
        <Button type="submit" variant="contained">{t("login.send")}</Button>
      </form>
    </main>
  );
};
